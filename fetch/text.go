package fetch

import (
	"strconv"
	"strings"
)

// size words a number of bytes for people: "64 MiB", "1.5 GiB", "12 B".
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	return strconv.FormatFloat(float64(int64(f*10))/10, 'f', -1, 64) + " " + units[i]
}

// shown quotes what a stranger wrote, in one short line of ASCII.
func shown(s string) string { return strconv.QuoteToASCII(cut(s, 300)) }

// cut shortens a text to about limit bytes.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
