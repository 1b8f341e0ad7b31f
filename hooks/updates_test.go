package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

var (
	none  = strings.Repeat("0", 40)
	one   = strings.Repeat("1", 40)
	two   = strings.Repeat("2", 40)
	three = strings.Repeat("3", 64)
)

func TestReadUpdates(t *testing.T) {
	in := none + " " + one + " refs/heads/a\n" + one + " " + none + " refs/tags/v1.0\n" +
		three + " " + strings.Repeat("4", 64) + " refs/heads/ä/b-c"
	want := []Update{{"", one, "refs/heads/a"}, {one, "", "refs/tags/v1.0"}, {three, strings.Repeat("4", 64), "refs/heads/ä/b-c"}}
	got, err := ReadUpdates(strings.NewReader(in))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := ReadUpdates(strings.NewReader("")); err != nil || len(got) > 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestReadUpdatesRefuses(t *testing.T) {
	cases := map[string]string{
		"empty line":   "\n",
		"two words":    one + " " + two + "\n",
		"four words":   one + " " + two + " refs/heads/a b\n",
		"short":        "1 2 refs/heads/a\n",
		"upper":        strings.Repeat("A", 40) + " " + two + " refs/heads/a\n",
		"mixed":        one + " " + three + " refs/heads/a\n",
		"nothing":      none + " " + none + " refs/heads/a\n",
		"no ref":       one + " " + two + " HEAD\n",
		"climbs":       one + " " + two + " refs/heads/../../config\n",
		"control":      one + " " + two + " refs/heads/a\x1b[2J\n",
		"lock":         one + " " + two + " refs/heads/a.lock\n",
		"dot":          one + " " + two + " refs/heads/.a\n",
		"slash":        one + " " + two + " refs/heads/\n",
		"reflog":       one + " " + two + " refs/heads/a@{1}\n",
		"long":         one + " " + two + " refs/heads/" + strings.Repeat("a", 5000) + "\n",
		"second wrong": one + " " + two + " refs/heads/a\nx\n",
	}
	for name, in := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := ReadUpdates(strings.NewReader(in))
			wantError(t, err, "cannot read", "push")
			if got != nil {
				t.Errorf("got %v as well", got)
			}
		})
	}
	line := one + " " + two + " refs/heads/a\n"
	_, err := ReadUpdates(strings.NewReader(strings.Repeat(line, maxUpdates+1)))
	wantError(t, err, "cannot read", "100000")
}

// FuzzReadUpdates holds that what passes is what git would write: writing it
// again gives the same.
func FuzzReadUpdates(f *testing.F) {
	f.Add([]byte(one + " " + two + " refs/heads/main\n"))
	f.Add([]byte(none + " " + two + " refs/heads/a/b\n" + one + " " + none + " refs/tags/v1"))
	f.Add([]byte("x\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		updates, err := ReadUpdates(bytes.NewReader(data))
		if err != nil {
			return
		}
		var b strings.Builder
		for _, u := range updates {
			before, after := u.Old, u.New
			if before == "" {
				before = strings.Repeat("0", len(after))
			}
			if after == "" {
				after = strings.Repeat("0", len(before))
			}
			fmt.Fprintf(&b, "%s %s %s\n", before, after, u.Ref)
			if strings.ContainsAny(u.Ref, "\x00\x1b\r\n ") || strings.Contains(u.Ref, "..") {
				t.Errorf("the ref %q passes", u.Ref)
			}
		}
		again := strings.ReplaceAll(strings.TrimSuffix(string(data), "\n"), "\r\n", "\n")
		if strings.TrimSuffix(strings.TrimSuffix(b.String(), "\n"), "\r") != strings.TrimSuffix(again, "\r") {
			t.Errorf("%q comes back as %q", data, b.String())
		}
	})
}

func TestPreReceiveTellsEverythingAtOnce(t *testing.T) {
	line := func(commit, ref string) string { return none + " " + commit + " refs/" + ref + "\n" }
	many := make([]error, 150)
	for i := range many {
		many[i] = fmt.Errorf("checks/x:%d:1: cannot", i)
	}
	lint := func(_ context.Context, commit string) error {
		switch commit[:1] {
		case "1":
			return nil
		case "2":
			return errors.Join(errors.New("a:1:1: cannot x"), errors.Join(errors.New("b:2:2: cannot y\nc:3:3: cannot z")))
		case "3":
			return errors.New("evil \x1b[2J name\r")
		case "4":
			return errors.New("")
		}
		return errors.Join(many...)
	}
	hash := func(digit string) string { return strings.Repeat(digit, 40) }
	refused := "assay: the push is refused for "
	cases := map[string]struct {
		in   string
		want string // "" for a push that passes
	}{
		"nothing":   {"", ""},
		"good":      {line(one, "heads/a"), ""},
		"no branch": {line(two, "tags/v1") + line(two, "notes/assay") + two + " " + none + " refs/heads/gone\n", ""},
		"three":     {line(two, "heads/a"), "a:1:1: cannot x\nb:2:2: cannot y\nc:3:3: cannot z\n" + refused + "3 mistakes"},
		"terminal":  {line(hash("3"), "heads/a"), "evil ?[2J name?\n" + refused + "1 mistake:"},
		"silent":    {line(hash("4"), "heads/a"), "cannot tell what is wrong: the check of the commit failed without a word\n" + refused + "1 mistake:"},
		"two commits": {line(two, "heads/a") + line(one, "heads/b") + line(two, "heads/c"),
			"assay: in a, c, commit 222222222222:\na:1:1: cannot x\nb:2:2: cannot y\nc:3:3: cannot z\n" + refused + "3 mistakes"},
		"many": {line(hash("5"), "heads/a") + line(two, "heads/b"), "checks/x:99:1: cannot\n… and 53 more\n" + refused + "153 mistakes"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			err := PreReceive{Lint: lint}.Run(t.Context(), strings.NewReader(tc.in), &out)
			if tc.want == "" {
				if err != nil || out.String() != "" {
					t.Errorf("got %v, %q", err, out.String())
				}
				return
			}
			if !errors.Is(err, ErrRefused) || !strings.Contains(out.String(), tc.want) {
				t.Errorf("got %v\n%s\nwant\n%s", err, out.String(), tc.want)
			}
		})
	}
}

func TestPreReceiveLintsACommitOnce(t *testing.T) {
	var linted []string
	lint := func(_ context.Context, commit string) error {
		linted = append(linted, commit)
		return nil
	}
	in := none + " " + one + " refs/heads/a\n" + two + " " + one + " refs/heads/b\n" + one + " " + two + " refs/heads/c\n"
	if err := (PreReceive{Lint: lint}).Run(t.Context(), strings.NewReader(in), &strings.Builder{}); err != nil {
		t.Fatal(err)
	}
	if want := []string{one, two}; !reflect.DeepEqual(linted, want) {
		t.Errorf("linted %v, want %v", linted, want)
	}
}

func TestPreReceiveRefusesWhatItCannotRead(t *testing.T) {
	lint := func(context.Context, string) error { return nil }
	err := PreReceive{Lint: lint}.Run(t.Context(), strings.NewReader("garbage\n"), &strings.Builder{})
	wantError(t, err, "cannot read line 1 of the push")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = PreReceive{Lint: lint}.Run(ctx, strings.NewReader(none+" "+one+" refs/heads/a\n"), &strings.Builder{})
	wantError(t, err, "cannot check the push")
}
