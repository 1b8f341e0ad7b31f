package main

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestShown(t *testing.T) {
	for text, want := range map[string]string{
		"plain": "plain", "": "", " a\n\tb  c ": "a b c", "\x1b[2J": `\x1b[2J`, "a\x00b": `a\x00b`, "\u202eabc": `\u202eabc`,
		"\xff": `\xff`, "naïve ☃ 日本": "naïve ☃ 日本", "\u009b1m": `\u009b1m`, `it's "quoted"`: `it's "quoted"`, "\U000e0001": `\U000e0001`,
	} {
		if got := shown(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestClipped(t *testing.T) {
	if got := clipped("日本語", 3) + clipped("日本語です", 3); got != "日本語日本…" {
		t.Error(got)
	}
}

// inert tells whether a text does nothing to a terminal but fill it.
func inert(text string) bool {
	return utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && !strconv.IsPrint(r) }) < 0
}

func FuzzTerminal(f *testing.F) {
	for _, seed := range []string{"", "a", "\x1b]0;x\x07", `{"a":"` + "\u202e" + `"}`, `["\u001b"]`, "\xff\xfe", "\u009b", "[[[[]]]]", "{\"a\":\"\x7f\U000e0001\"}", "\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if line := shown(string(data)); !inert(line) || strings.ContainsAny(line, "\n\t") {
			t.Errorf("a line: %q", line)
		}
		var out bytes.Buffer
		if err := printBody(&env{out: &out}, data); err != nil {
			t.Fatal(err)
		}
		if !inert(out.String()) {
			t.Errorf("a body: %q", out.String())
		}
		if !json.Valid(data) {
			return
		}
		var before, after any
		if json.Unmarshal(data, &before) != nil {
			return // a number beyond float64
		}
		if err := json.Unmarshal(out.Bytes(), &after); err != nil || !reflect.DeepEqual(before, after) {
			t.Errorf("%q means something else: %q, %v", data, out.String(), err)
		}
	})
}
