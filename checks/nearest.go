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
	best, least := "", len(word)
	for _, k := range known {
		if d, ok := slips(word, k); ok && (best == "" || d < least) {
			best, least = k, d
		}
	}
	return best
}

// allNear are all known words that few slips of the finger lead to.
func allNear(word string, known []string) []string {
	return slices.DeleteFunc(slices.Clone(known), func(k string) bool {
		_, ok := slips(word, k)
		return !ok
	})
}

// slips counts those from a word to a known one, of which one is the beginning of
// the other as well as another by one. It is not ok when they are too many.
func slips(word, known string) (count int, ok bool) {
	const longest = 40 // no known word is longer; bounds the work
	if len(word) > longest {
		return 0, false
	}
	const telling = 3 // letters in common from the front: mem, description
	word = strings.ToLower(word)
	count = distance(word, known)
	if len(word) >= telling && len(known) >= telling && (strings.HasPrefix(word, known) || strings.HasPrefix(known, word)) {
		count = 1
	}
	return count, count < len(word)/3+2 && count < len(known)
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
