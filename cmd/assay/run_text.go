package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// sequences are what moves or colours a terminal (ECMA-48: CSI, OSC and the
// other escape sequences).
var sequences = regexp.MustCompile(`\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|$)|[ -/]*[0-Z\\^-~]|$)`)

// keptLine bounds a line of output that is shown, in bytes.
const keptLine = 4 << 10

// plainLine is a line of a program's output that does nothing to a terminal. Of a
// line that was written over, as progress bars are, the last writing counts.
func plainLine(text string) string {
	text = strings.TrimRight(text, "\r")
	text = text[strings.LastIndexByte(text, '\r')+1:]
	text = strings.ToValidUTF8(text[:min(len(text), keptLine)], "?")
	if strings.IndexByte(text, '\x1b') >= 0 {
		text = sequences.ReplaceAllString(text, "")
	}
	var b strings.Builder
	column := 0
	for _, r := range text {
		piece := "?"
		switch {
		case r == '\t':
			piece = strings.Repeat(" ", 8-column%8)
		case strconv.IsPrint(r):
			piece = string(r)
		case unicode.IsSpace(r):
			piece = " "
		}
		b.WriteString(piece)
		column += utf8.RuneCountInString(piece)
	}
	return b.String()
}

// width is how many columns a text takes at most: what may be wide counts as two.
func width(text string) int {
	n := 0
	for _, r := range text {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	if r >= 0x1100 && (r < 0x2000 || r >= 0x2e80) || r >= 0x2600 && r < 0x2c00 && r != '✓' && r != '✗' {
		return 2
	}
	return 1
}

// fit cuts a text to a number of columns.
func fit(text string, columns int) string {
	n := 0
	for i, r := range text {
		if n += runeWidth(r); n > columns {
			return text[:i]
		}
	}
	return text
}

// duration is short: "0.3s", "12s", "3m05s", "1h02m".
func duration(d time.Duration) string {
	switch {
	case d < 0:
		return "0.0s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// count is "1 line" or "1,234 lines".
func count(n int, what string) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	if n != 1 {
		what += "s"
	}
	return text + " " + what
}
