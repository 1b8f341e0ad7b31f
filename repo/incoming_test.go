package repo

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// hooked makes this test binary the pre-receive hook of a repository; what it
// reports is read with the func that comes back.
func hooked(t *testing.T, gitDir string) (report func() string) {
	t.Helper()
	exe := must[string](t)(os.Executable())
	path := filepath.Join(t.TempDir(), "report")
	script := fmt.Sprintf("#!/bin/sh\nREPO_TEST_ROLE=hook REPO_TEST_REPORT='%s' exec '%s'\n", path, exe)
	put(t, filepath.Join(gitDir, "hooks", "pre-receive"), script)
	if err := os.Chmod(filepath.Join(gitDir, "hooks", "pre-receive"), 0o755); err != nil {
		t.Fatal(err)
	}
	return func() string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(path)
		return string(data)
	}
}

func wantReport(t *testing.T, got string, want ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimRight(got, "\n"), "\n")
	if !slices.Equal(lines, want) {
		t.Errorf("the hook saw\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestIncomingSeesEveryKindOfPush(t *testing.T) {
	for _, limit := range []string{"1", "10000"} { // packs, loose objects
		t.Run("unpackLimit "+limit, func(t *testing.T) {
			bare, src := newBare(t), newRepo(t)
			git(t, bare, "config", "receive.unpackLimit", limit)
			git(t, bare, "config", "receive.denyDeletes", "false")
			report := hooked(t, bare)
			commit(t, src, "a", "first", "keep/b", "kept")
			git(t, src, "push", "-q", bare, "main")
			wantReport(t, report(), "refs/heads/main commit=true quarantine=true", "  a 5 first", "  keep/b 4 kept")

			// What does not change is only in the repository itself.
			commit(t, src, "a", "second")
			git(t, src, "tag", "-a", "-m", "t", "v1")
			git(t, src, "branch", "other", "main~1")
			git(t, src, "push", "-q", bare, "main", "v1", "other")
			wantReport(t, report(),
				"refs/heads/main commit=true quarantine=true", "  a 6 second", "  keep/b 4 kept",
				"refs/tags/v1 commit=false quarantine=true",
				"refs/heads/other commit=true quarantine=true", "  a 5 first", "  keep/b 4 kept")

			git(t, src, "reset", "-q", "--hard", "main~1")
			commit(t, src, "a", "forced")
			git(t, src, "push", "-q", "--force", bare, "main", ":other")
			wantReport(t, report(),
				"refs/heads/main commit=true quarantine=true", "  a 6 forced", "  keep/b 4 kept",
				"refs/heads/other commit=false quarantine=true")
		})
	}
}

func TestIncomingSeesLargeThinPushes(t *testing.T) {
	bare, src := newBare(t), newRepo(t)
	report := hooked(t, bare)
	big := ""
	for i := range 2000 {
		big += fmt.Sprintf("line %d of a file that deltas well\n", i)
	}
	var files []string
	for i := range 300 {
		files = append(files, fmt.Sprintf("d%d/f%d", i%7, i), fmt.Sprint(i))
	}
	commit(t, src, append(files, "big", big)...)
	git(t, src, "push", "-q", bare, "main")
	if got := strings.Count(report(), "\n"); got != 302 {
		t.Errorf("the hook saw %d lines", got)
	}
	commit(t, src, "big", "X"+big)
	for i := range 150 {
		commit(t, src, "n", fmt.Sprint(i))
	}
	git(t, src, "push", "-q", "--thin", bare, "main")
	if got := report(); !strings.Contains(got, fmt.Sprintf("  big %d Xline 0", len(big)+1)) || strings.Count(got, "\n") != 303 {
		t.Errorf("the hook saw\n%.300s", got)
	}
}

func TestIncomingFollowsAlternates(t *testing.T) {
	for _, name := range []string{"plain", "with:colon", `with"quote`, "with space"} {
		t.Run(name, func(t *testing.T) {
			base := filepath.Join(t.TempDir(), name)
			src := newRepo(t)
			commit(t, src, "a", "first", "b", "shared")
			origin, clone := filepath.Join(base, "origin.git"), filepath.Join(base, "clone.git")
			if err := os.MkdirAll(base, 0o755); err != nil {
				t.Fatal(err)
			}
			git(t, base, "clone", "-q", "--bare", src, origin)
			git(t, base, "clone", "-q", "--bare", "--shared", origin, clone)
			report := hooked(t, clone)
			commit(t, src, "a", "second")
			git(t, src, "push", "-q", clone, "main")
			wantReport(t, report(), "refs/heads/main commit=true quarantine=true", "  a 6 second", "  b 6 shared")
		})
	}
}

func TestIncomingInWorktrees(t *testing.T) {
	main, src := newRepo(t), newRepo(t)
	commit(t, src, "a", "first")
	git(t, main, "pull", "-q", src, "main")
	linked := filepath.Join(t.TempDir(), "linked")
	git(t, main, "worktree", "add", "-q", linked, "-b", "work")
	report := hooked(t, filepath.Join(main, ".git"))
	commit(t, src, "b", "second")
	for i, target := range []string{main, filepath.Join(main, ".git"), linked} {
		git(t, src, "push", "-q", target, fmt.Sprintf("main:refs/heads/new%d", i))
		wantReport(t, report(), fmt.Sprintf("refs/heads/new%d commit=true quarantine=true", i), "  a 5 first", "  b 6 second")
	}
}

func TestIncomingReadsGitsVariables(t *testing.T) {
	src := newRepo(t)
	at := commit(t, src, "a", "first")
	empty := newBare(t)
	objects := filepath.Join(src, ".git", "objects")
	t.Chdir(src)
	cases := map[string]map[string]string{
		"quarantine":          {"GIT_OBJECT_DIRECTORY": objects},
		"relative quarantine": {"GIT_OBJECT_DIRECTORY": ".git/objects"},
		"alternate":           {"GIT_ALTERNATE_OBJECT_DIRECTORIES": "/nonexistent:" + objects},
		"relative alternate":  {"GIT_ALTERNATE_OBJECT_DIRECTORIES": ":.git/objects"},
		"quoted alternate":    {"GIT_ALTERNATE_OBJECT_DIRECTORIES": `"/a\"b:c":"` + strings.ReplaceAll(objects, "/", `\057`) + `"`},
		"missing quarantine":  {"GIT_OBJECT_DIRECTORY": "/nonexistent", "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects},
	}
	for name, env := range cases {
		t.Run(name, func(t *testing.T) {
			in := must[*Incoming](t)(OpenIncoming(empty, func(k string) string { return env[k] }))
			defer in.Close()
			if !isCommit(in, at) {
				t.Error("the commit is not found")
			}
		})
	}
	in := must[*Incoming](t)(OpenIncoming(empty, func(string) string { return "" }))
	defer in.Close()
	if isCommit(in, at) || isCommit(in, "x") {
		t.Error("a commit is found where there is none")
	}
	_, err := OpenIncoming(t.TempDir(), func(string) string { return "" })
	wantError(t, err, "cannot read the repository", "objects")
}

func TestSplitAlternates(t *testing.T) {
	cases := map[string][]string{
		"":                 nil,
		"/a":               {"/a"},
		"/a:/b":            {"/a", "/b"},
		"::/a:":            {"/a"},
		`"/a:b":/c`:        {"/a:b", "/c"},
		`"/a\"\\\303\251"`: {`/a"\é`},
		`"/unfinished`:     {`"/unfinished`},
		`"/bad\q":/c`:      {`"/bad\q"`, "/c"},
	}
	for in, want := range cases {
		if got := splitAlternates(in); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
