package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/assay-ci/assay/web"
)

// shown is one line that does nothing to a terminal: white space of any kind is
// a space, and what does not print is written as Go does, "\x1b".
func shown(text string) string {
	return strings.Join(strings.Fields(escaped(strings.Join(strings.Fields(text), " "))), " ")
}

// escaped writes out what does not print; ends of lines and tabs stay.
func escaped(text string) string {
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case r == '\n' || r == '\t' || strconv.IsPrint(r):
			b.WriteString(text[:n])
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
		text = text[n:]
	}
	return b.String()
}

// escapedJSON is the same document with nothing in it that does not print. What
// it replaces can only stand in strings, where its escape means the same.
func escapedJSON(doc []byte) []byte {
	var b bytes.Buffer
	for len(doc) > 0 {
		r, n := utf8.DecodeRune(doc)
		switch {
		case r == utf8.RuneError && n == 1:
			b.WriteString(`\ufffd`)
		case r == '\n' || r == '\t' || strconv.IsPrint(r):
			b.Write(doc[:n])
		case r == '\r': // stands between values, and nowhere else
			b.WriteByte(' ')
		default:
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, `\u%04x`, unit)
			}
		}
		doc = doc[n:]
	}
	return b.Bytes()
}

// printJSON writes a value as one line of JSON that is safe on a terminal.
func printJSON(e *env, value any) error {
	doc, err := json.Marshal(value)
	if err != nil {
		return err
	}
	_, err = e.out.Write(append(escapedJSON(doc), '\n'))
	return err
}

// printBody writes a body for people: JSON indented and otherwise the same
// document, anything else with what does not print written out.
func printBody(e *env, body []byte) error {
	text := []byte(escaped(string(body)))
	if json.Valid(body) {
		text = web.IndentJSON(escapedJSON(body))
	}
	if !bytes.HasSuffix(text, []byte("\n")) {
		text = append(text, '\n')
	}
	_, err := e.out.Write(text)
	return err
}

// clipped is text of at most n characters.
func clipped(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-1]) + "…"
}
