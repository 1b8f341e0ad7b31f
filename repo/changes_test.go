package repo

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestChangedPaths(t *testing.T) {
	src := newRepo(t)
	first := commit(t, src, "a", "1", "d/x", "1", "d/e/y", "1", "gone/z", "1", "kind", "file")
	for _, path := range []string{"gone", "kind"} {
		if err := os.RemoveAll(filepath.Join(src, path)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(src, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	second := commit(t, src, "d/e/y", "2", "d/new", "1", "kind/inner", "dir now")
	c := openCache(t, Limits{})
	must[Revision](t)(c.Resolve(t.Context(), src, nil))
	all := []string{"a", "d/e/y", "d/new", "d/x", "kind/inner"}
	cases := map[string]struct {
		before, after string
		want          []string
	}{
		"forward": {first, second, []string{"a", "d/e/y", "d/new", "gone/z", "kind", "kind/inner"}},
		"back":    {second, first, []string{"a", "d/e/y", "d/new", "gone/z", "kind", "kind/inner"}},
		"same":    {second, second, nil},
		"new":     {"", second, all},
		"zeros":   {strings.Repeat("0", 40), second, all},
		"missing": {strings.Repeat("1", 40), second, all},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := c.ChangedPaths(t.Context(), src, tc.before, tc.after)
			if err != nil || !slices.Equal(got, tc.want) {
				t.Errorf("got %v, %v, want %v", got, err, tc.want)
			}
		})
	}
	_, err := c.ChangedPaths(t.Context(), src, first, strings.Repeat("1", 40))
	wantError(t, err, "cannot", src, "fetch it first")
}

func TestHooksPath(t *testing.T) {
	src, bare := newRepo(t), newBare(t)
	git(t, bare, "config", "core.hooksPath", "other/hooks")
	for dir, want := range map[string]string{src: "", filepath.Join(src, ".git"): "", bare: "other/hooks"} {
		if got, err := HooksPath(t.Context(), dir); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", dir, got, err, want)
		}
	}
	put(t, filepath.Join(bare, "config"), "[nonsense")
	_, err := HooksPath(t.Context(), bare)
	wantError(t, err, "cannot", "core.hooksPath")
}
