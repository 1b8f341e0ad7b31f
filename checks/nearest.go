package checks

import (
	"slices"
	"strings"
)

// didYouMean is the end of a message about an unknown word: the known word it
// resembles, or all of them.
func didYouMean(word string, known []string) string {
	if best := nearest(word, known); best != "" {
		return "write " + best
	}
	return "write " + oneOf(known)
}

// oneOf lists words as "one of a, b, c", sorted.
func oneOf(words []string) string {
	sorted := slices.Sorted(slices.Values(words))
	if len(sorted) == 1 {
		return sorted[0]
	}
	return "one of " + strings.Join(sorted, ", ")
}

// nearest is the known word that few slips of the finger lead to, "" for none.
func nearest(word string, known []string) string {
	const longest = 40 // no known word is longer; bounds the work
	if len(word) > longest {
		return ""
	}
	const telling = 3 // letters in common from the front: mem, description
	word = strings.ToLower(word)
	best, least := "", len(word)/3+2
	for _, k := range known {
		d := distance(word, k)
		if len(word) >= telling && len(k) >= telling && (strings.HasPrefix(word, k) || strings.HasPrefix(k, word)) {
			d = 1
		}
		if d < least && d < len(k) {
			best, least = k, d
		}
	}
	return best
}

// distance counts the slips between two words: a letter more, less, another, or
// two swapped (optimal string alignment).
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
