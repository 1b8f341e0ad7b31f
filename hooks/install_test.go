package hooks

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// snapshot describes every file below a directory: its mode, and its content.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		files[name] = info.Mode().String()
		switch {
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(path)
			files[name] = "-> " + target
			return err
		case info.Mode().IsRegular():
			files[name] += " " + read(t, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// putHook makes the hook that the case begins with.
func putHook(t *testing.T, name, hook string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Dir(hook)); err != nil {
		t.Fatal(err)
	}
	switch name {
	case "a hook":
		put(t, hook, "#!/bin/sh\nexit 0\n", 0o755)
	case "a hook that is off":
		put(t, hook, "#!/bin/sh\nexit 1\n", 0o644)
	case "a link":
		put(t, filepath.Join(filepath.Dir(hook), "..", "scripts", "mine"), "#!/bin/sh\nexit 0\n", 0o755)
		put(t, hook, "", 0o755)
		if err := os.Remove(hook); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../scripts/mine", hook); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInstallTwiceIsInstallOnce(t *testing.T) {
	for _, name := range []string{"nothing there", "a hook", "a link", "a hook that is off"} {
		t.Run(name, func(t *testing.T) {
			bare := newRepo(t, "--bare")
			hook := filepath.Join(bare, "hooks", "pre-receive")
			putHook(t, name, hook)
			before := snapshot(t, bare)
			o := options(t, bare, "http://localhost:8080")
			if err := Install(o); err != nil {
				t.Fatal(err)
			}
			once := snapshot(t, bare)
			if err := Install(o); err != nil {
				t.Fatal(err)
			}
			if twice := snapshot(t, bare); !reflect.DeepEqual(once, twice) {
				t.Errorf("once\n%v\ntwice\n%v", once, twice)
			}
			src := newRepo(t)
			commit(t, src, "good\n")
			git(t, src, "push", "-q", bare, "main:refs/other/x") // the hooks run

			if err := Uninstall(bare); err != nil {
				t.Fatal(err)
			}
			git(t, bare, "update-ref", "-d", "refs/other/x")
			after := snapshot(t, bare)
			if name == "a link" { // it leads to the same file
				if got := read(t, hook); !strings.Contains(got, "exit 0") {
					t.Errorf("the hook is %q", got)
				}
				return
			}
			for file, want := range before {
				if after[file] != want && !strings.HasPrefix(file, "objects") && !strings.HasPrefix(file, "refs") {
					t.Errorf("%s is %q and was %q", file, after[file], want)
				}
			}
			for file := range after {
				if strings.Contains(file, "assay") || strings.HasSuffix(file, ".d") {
					t.Errorf("%s is left", file)
				}
			}
		})
	}
}

// TestInstallGoesOnAfterKill puts the repository into the state between the
// second name of the existing hook and our stub.
func TestInstallGoesOnAfterKill(t *testing.T) {
	bare := newRepo(t, "--bare")
	hook := filepath.Join(bare, "hooks", "post-receive")
	put(t, hook, "#!/bin/sh\n", 0o755)
	if err := keepExistingIn(t, hook); err != nil {
		t.Fatal(err)
	}
	if err := Install(options(t, bare, "http://h")); err != nil {
		t.Fatal(err)
	}
	if got := filesIn(hook+".d", "", ""); !reflect.DeepEqual(got, []string{filepath.Join(hook+".d", existing)}) {
		t.Errorf("there are %q", got)
	}
	// A hook that somebody wrote over ours is kept as well.
	put(t, hook, "#!/bin/sh\necho new\n", 0o755)
	if err := Install(options(t, bare, "http://h")); err != nil {
		t.Fatal(err)
	}
	wantWords(t, read(t, filepath.Join(hook+".d", existing+"-2")), "echo new")
}

func keepExistingIn(t *testing.T, hook string) error {
	t.Helper()
	if err := os.Mkdir(hook+".d", 0o755); err != nil {
		return err
	}
	return keepExisting(hook, hook+".d")
}

func TestInstallFindsTheRepository(t *testing.T) {
	main, src := newRepo(t), newRepo(t)
	commit(t, main, "good\n")
	linked := filepath.Join(t.TempDir(), "linked")
	git(t, main, "worktree", "add", "-q", linked)
	commit(t, src, "good\n")
	outer := newRepo(t)
	git(t, outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", src, "sub")
	for dir, gitDir := range map[string]string{
		main: main + "/.git", main + "/.git": main + "/.git", linked: main + "/.git",
		main + "/.git/worktrees/linked": main + "/.git", outer + "/sub": outer + "/.git/modules/sub",
	} {
		got, err := findGitDir(dir)
		if err != nil || got != gitDir {
			t.Errorf("%s: got %s, %v, want %s", dir, got, err, gitDir)
		}
	}
	_, err := findGitDir(t.TempDir())
	wantError(t, err, "cannot find a repository", "git init")
	_, err = findGitDir("/nonexistent")
	wantError(t, err, "cannot find the repository")
}

func TestInstallRefuses(t *testing.T) {
	bare := newRepo(t, "--bare")
	cases := map[string]struct {
		change func(*Options)
		words  []string
	}{
		"hooks path":  {func(o *Options) { o.HooksPath = "/etc/hooks" }, []string{"/etc/hooks", "core.hooksPath"}},
		"no program":  {func(o *Options) { o.Exe = "/nonexistent/assay" }, []string{"/nonexistent/assay", "install"}},
		"relative":    {func(o *Options) { o.Exe = "assay" }, []string{"absolute"}},
		"a directory": {func(o *Options) { o.Exe = "/" }, []string{"no program"}},
		"no server":   {func(o *Options) { o.Server = "" }, []string{"http"}},
		"odd server":  {func(o *Options) { o.Server = "file:///x" }, []string{"http"}},
		"password":    {func(o *Options) { o.Server = "http://u:p@h" }, []string{"http"}},
		"no secret":   {func(o *Options) { o.SecretFile = "" }, []string{"secret"}},
		"odd name":    {func(o *Options) { o.Name = "a\nb" }, []string{"name"}},
		"no repo":     {func(o *Options) { o.GitDir = "/" }, []string{"repository"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			o := options(t, bare, "http://h")
			tc.change(&o)
			wantError(t, Install(o), append(tc.words, "cannot")...)
			if _, err := os.Stat(filepath.Join(bare, "assay")); err == nil {
				t.Error("something was installed")
			}
		})
	}
	o := options(t, bare, "http://h")
	for _, own := range []string{"hooks", filepath.Join(bare, "hooks")} {
		o.HooksPath = own
		if err := Install(o); err != nil {
			t.Error(err)
		}
	}
}

func TestInstallNamesTheRepositoryByItsPath(t *testing.T) {
	bare := newRepo(t, "--bare")
	o := options(t, bare, "https://assay.example.org")
	o.Name = ""
	if err := Install(o); err != nil {
		t.Fatal(err)
	}
	got, err := Load(bare)
	want := Config{Version: 1, Name: bare, Server: "https://assay.example.org", SecretFile: o.SecretFile}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestLoadRefuses(t *testing.T) {
	good := "version: 1\nname: r\nserver: http://h\nsecret_file: /s\n"
	cases := map[string]struct{ content, word string }{
		"unknown key": {good + "servr: x\n", "servr"},
		"version":     {strings.Replace(good, "1", "2", 1), "version 2"},
		"type":        {strings.Replace(good, "1", "[]", 1), "line 1"},
		"no name":     {strings.Replace(good, "name: r", "", 1), "name"},
		"server":      {strings.Replace(good, "http://h", "h", 1), "http://"},
		"secret":      {strings.Replace(good, "/s", "s", 1), "absolute"},
		"twice":       {good + "name: x\n", "name"},
		"empty":       {"", "EOF"},
		"large":       {good + "#" + strings.Repeat("x", 70<<10), "65536"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, configPath(dir), tc.content, 0o644)
			_, err := Load(dir)
			wantError(t, err, "cannot", "config.yml", tc.word)
		})
	}
	_, err := Load(t.TempDir())
	wantError(t, err, "cannot read", "assay hook install")
}

func TestSharedRepositoriesStayShared(t *testing.T) {
	for args, want := range map[string][2]os.FileMode{
		"--shared=group": {os.ModeDir | os.ModeSetgid | 0o770, 0o660},
		"--shared=umask": {os.ModeDir | 0o700, 0o600},
	} {
		bare := newRepo(t, "--bare", args)
		if err := Install(options(t, bare, "http://h")); err != nil {
			t.Fatal(err)
		}
		s, err := NewSpool(bare, nil)
		if err != nil {
			t.Fatal(err)
		}
		id := add(t, s, "a")
		for path, mode := range map[string]os.FileMode{s.dir: want[0], filepath.Join(s.dir, id+".json"): want[1], configPath(bare): 0o644} {
			info, err := os.Stat(path)
			if err != nil || info.Mode() != mode {
				t.Errorf("%s: %s has mode %v, %v, want %v", args, path, info.Mode(), err, mode)
			}
		}
	}
}

func TestCheckTellsWhatIsInstalled(t *testing.T) {
	bare := newRepo(t, "--bare")
	s, err := Check(bare, "")
	if err != nil || len(s.Problems) != 3 || len(s.Installed) != 0 {
		t.Errorf("got %+v, %v", s, err)
	}
	o := options(t, bare, "http://h")
	put(t, filepath.Join(bare, "hooks", "pre-receive"), "#!/bin/sh\n", 0o755)
	if err := Install(o); err != nil {
		t.Fatal(err)
	}
	spool, err := NewSpool(bare, nil)
	if err != nil {
		t.Fatal(err)
	}
	add(t, spool, "a")
	s, err = Check(bare, "")
	want := Status{
		GitDir: bare, Layout: LayoutGit, Exe: o.Exe,
		Installed: map[string]bool{"pre-receive": true, "post-receive": true}, Current: map[string]bool{"pre-receive": true, "post-receive": true},
		Others: []string{"hooks/pre-receive.d/50-existing"}, Waiting: 1,
		Config:   Config{Version: 1, Name: "checks/hello", Server: "http://h", SecretFile: o.SecretFile},
		Problems: []string{"cannot deliver 1 events yet: see whether http://h answers and has the same secret: assay hook deliver --git-dir " + bare + " tells"},
	}
	if err != nil || !reflect.DeepEqual(s, want) {
		t.Errorf("got  %+v, %v\nwant %+v", s, err, want)
	}

	put(t, filepath.Join(bare, "hooks", "pre-receive"), read(t, filepath.Join(bare, "hooks", "pre-receive")), 0o644)
	put(t, filepath.Join(bare, "hooks", "post-receive"), string(slot{name: "post-receive"}.stub("/nonexistent")), 0o755)
	put(t, filepath.Join(spool.dir, "x.bad"), "", 0o600)
	if err := os.Remove(o.SecretFile); err != nil {
		t.Fatal(err)
	}
	s, err = Check(bare, "/etc/hooks")
	if err != nil || len(s.Problems) != 6 {
		t.Errorf("got %q, %v", s.Problems, err)
	}
	wantWords(t, strings.Join(s.Problems, "\n"), "core.hooksPath", "not executable", "/nonexistent is not there", "webhook secret", "1 events")
}

func TestUninstallKeepsEventsThatWait(t *testing.T) {
	bare := newRepo(t, "--bare")
	if err := Install(options(t, bare, "http://h")); err != nil {
		t.Fatal(err)
	}
	spool, err := NewSpool(bare, nil)
	if err != nil {
		t.Fatal(err)
	}
	add(t, spool, "a")
	if err := Uninstall(bare); err != nil {
		t.Fatal(err)
	}
	if left, err := spool.Left(); left != 1 || err != nil {
		t.Errorf("%d are left, %v", left, err)
	}
	if err := Uninstall(bare); err != nil {
		t.Error(err)
	}
}
