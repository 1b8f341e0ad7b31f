package hooks

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestParseLayout(t *testing.T) {
	for _, l := range Layouts() {
		if got, err := ParseLayout(string(l)); got != l || err != nil {
			t.Errorf("%q is %q, %v", l, got, err)
		}
	}
	if got, err := ParseLayout("auto"); got != "" || err != nil {
		t.Errorf("auto is %q, %v", got, err)
	}
	_, err := ParseLayout("svn\x1b")
	wantError(t, err, "cannot use the layout", "gitolite")
}

// delegate is what Gitea and Forgejo make of a hook, in our words: it runs all of a
// directory with the same input, and fails if one of them did.
const delegate = `#!/bin/sh
in=$(cat); bad=0
for h in "$GIT_DIR"/%s/"${0##*/}".d/*; do
	[ -f "$h" ] && [ -x "$h" ] || continue
	echo "$in" | "$h" || bad=1
done
exit $bad
`

// asServer makes a repository as a git server has it, with a hook of the server's
// own that leaves a trace.
func asServer(t *testing.T, l Layout) (bare, trace string) {
	bare, trace = newRepo(t, "--bare"), filepath.Join(t.TempDir(), "trace")
	dirs := map[Layout]string{LayoutGitea: "hooks", LayoutGitLab: "custom_hooks"}
	for _, name := range hookNames() {
		put(t, filepath.Join(bare, "hooks", name), fmt.Sprintf(delegate, dirs[l]), 0o755)
		put(t, filepath.Join(bare, dirs[l], name+".d", "gitea"), fmt.Sprintf("#!/bin/sh\ncat >>'%s'\n", trace), 0o755)
	}
	return bare, trace
}

// TestServersThatRunAllHooks holds that our hooks work beside a server's own, that
// those stay as they are, and that nothing is left after us.
func TestServersThatRunAllHooks(t *testing.T) {
	for layout, dir := range map[Layout]string{LayoutGitea: "hooks", LayoutGitLab: "custom_hooks"} {
		t.Run(string(layout), func(t *testing.T) {
			bare, trace := asServer(t, layout)
			src, s := newRepo(t), newServer(t, 202)
			before := snapshot(t, bare)
			o := options(t, bare, s.URL)
			for range 2 {
				if err := Install(o); err != nil {
					t.Fatal(err)
				}
			}
			status, err := Check(bare, "")
			if err != nil || status.Layout != layout || len(status.Problems) > 0 || !status.Current["pre-receive"] || !status.Installed["post-receive"] {
				t.Errorf("got %+v, %v", status, err)
			}
			if got := read(t, filepath.Join(bare, dir, "pre-receive.d", ownName)); !strings.Contains(got, stubMark) {
				t.Errorf("our hook is %q", got)
			}
			at := commit(t, src, "bad\n")
			out, err := tryGit(src, "push", bare, "main")
			if err == nil || !strings.Contains(out, "formula:1:1: cannot use") {
				t.Errorf("got %v\n%s", err, out)
			}
			good := commit(t, src, "good\n")
			out = git(t, src, "push", bare, "main")
			wantWords(t, out, "/events/"+delivery(t, <-s.got))
			line := strings.Repeat("0", 40) + " %s refs/heads/main\n"
			if got, want := read(t, trace), fmt.Sprintf(line, at)+strings.Repeat(fmt.Sprintf(line, good), 2); got != want {
				t.Errorf("the server's own hooks saw\n%s\nwant\n%s", got, want)
			}
			if err := Uninstall(bare); err != nil {
				t.Fatal(err)
			}
			after := snapshot(t, bare)
			for file := range after {
				if _, there := before[file]; !there && strings.Contains(file, "hooks") || strings.Contains(file, "assay") {
					t.Errorf("%s is left", file)
				}
			}
			for file, want := range before {
				if strings.Contains(file, "hooks") && after[file] != want {
					t.Errorf("%s is %q and was %q", file, after[file], want)
				}
			}
		})
	}
}

// TestHookOfAnEarlierVersionMoves puts the server's own hook back in its place.
func TestHookOfAnEarlierVersionMoves(t *testing.T) {
	bare, _ := asServer(t, LayoutGitea)
	own := read(t, filepath.Join(bare, "hooks/pre-receive"))
	o := options(t, bare, "http://h")
	o.Layout = LayoutGit
	if err := Install(o); err != nil {
		t.Fatal(err)
	}
	if read(t, filepath.Join(bare, "hooks/pre-receive")) == own {
		t.Fatal("nothing is installed")
	}
	o.Layout = ""
	if err := Install(o); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(bare, "hooks/pre-receive")); got != own {
		t.Errorf("the server's hook is %q", got)
	}
	if s, err := Check(bare, ""); err != nil || s.Layout != LayoutGitea || len(s.Problems) > 0 {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestInstallOverwritesNoStranger(t *testing.T) {
	bare, _ := asServer(t, LayoutGitLab)
	put(t, filepath.Join(bare, "custom_hooks/pre-receive.d", ownName), "#!/bin/sh\n", 0o755)
	wantError(t, Install(options(t, bare, "http://h")), "cannot install the hook pre-receive", "not assay's")
}

func TestDetect(t *testing.T) {
	cases := map[string]struct {
		file string
		want Layout
	}{
		"plain": {"hooks/pre-receive.d/50-existing", LayoutGit}, "gitea": {"hooks/pre-receive.d/gitea", LayoutGitea},
		"forgejo": {"hooks/pre-receive.d/forgejo", LayoutGitea}, "gitlab": {"custom_hooks/update", LayoutGitLab},
		"gitolite": {"gl-conf", LayoutGitolite}, "hashed": {"../@hashed/6b/86/6b86.git/HEAD", LayoutGitLab},
	}
	for name, tc := range cases {
		dir := t.TempDir()
		put(t, filepath.Join(dir, tc.file), "", 0o644)
		if name == "hashed" {
			dir = filepath.Dir(filepath.Join(dir, tc.file))
		}
		if got := detect(dir); got != tc.want {
			t.Errorf("%s is %q", name, got)
		}
	}
}

// TestCheckTellsWhatIsNotCurrent takes an edited hook for one that nobody knows.
func TestCheckTellsWhatIsNotCurrent(t *testing.T) {
	bare := newRepo(t, "--bare")
	if err := Install(options(t, bare, "http://h")); err != nil {
		t.Fatal(err)
	}
	hook := filepath.Join(bare, "hooks/post-receive")
	put(t, hook, read(t, hook)+"echo more\n", 0o755)
	s, err := Check(bare, "")
	if err != nil || !s.Current["pre-receive"] || s.Current["post-receive"] || !s.Installed["post-receive"] {
		t.Errorf("got %+v, %v", s, err)
	}
	wantWords(t, strings.Join(s.Problems, "\n"), "cannot vouch for the hook post-receive", "install again")
}

// gitolite is a gitolite of its own, with the repository testing.
type gitolite struct {
	t    *testing.T
	home string
	ssh  string // takes the place of ssh: it is gitolite's side of the connection
}

func newGitolite(t *testing.T) gitolite {
	t.Helper()
	if _, err := exec.LookPath("gitolite"); err != nil {
		t.Fatal("there is no gitolite: install the package gitolite3 (scripts/setup.sh test)")
	}
	g := gitolite{t: t, home: t.TempDir()}
	g.run("setup", "-a", "admin")
	g.ssh = filepath.Join(t.TempDir(), "ssh")
	shell := strings.TrimSpace(g.run("query-rc", "GL_BINDIR")) + "/gitolite-shell"
	script := "#!/bin/sh\nfor last; do :; done\nexport HOME='%s' SSH_CONNECTION='1 2 3 4' SSH_ORIGINAL_COMMAND=\"$last\"\nexec '%s' admin\n"
	put(t, g.ssh, fmt.Sprintf(script, g.home, shell), 0o755)
	return g
}

func (g gitolite) run(args ...string) string {
	g.t.Helper()
	cmd := exec.Command("gitolite", args...)
	cmd.Env = append(os.Environ(), "HOME="+g.home, "USER=git")
	out, err := cmd.Output()
	if err != nil {
		g.t.Fatalf("gitolite %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

func (g gitolite) repo(name string) string {
	return filepath.Join(g.home, "repositories", name+".git")
}

// push pushes main through gitolite, which asks nobody else's permission.
func (g gitolite) push(src, repo string) (string, error) {
	cmd := exec.Command("git", "push", "git@gitolite:"+repo, "+HEAD:refs/heads/main")
	cmd.Dir = src
	cmd.Env = append(os.Environ(), "GIT_SSH="+g.ssh)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestGitolite(t *testing.T) {
	g := newGitolite(t)
	common := filepath.Join(g.home, ".gitolite/hooks/common")
	trace := filepath.Join(t.TempDir(), "trace")
	put(t, filepath.Join(common, "post-receive"), fmt.Sprintf("#!/bin/sh\ncat >>'%s'\n", trace), 0o755)
	g.run("setup", "--hooks-only")
	before := snapshot(t, filepath.Dir(common))
	s := newServer(t, 202)
	o := options(t, g.repo("testing"), s.URL)
	for range 2 {
		if err := Install(o); err != nil {
			t.Fatal(err)
		}
		g.run("setup", "--hooks-only") // gitolite makes its links anew
	}
	status, err := Check(o.GitDir, "")
	if err != nil || status.Layout != LayoutGitolite || len(status.Problems) > 0 || !status.Current["pre-receive"] {
		t.Errorf("got %+v, %v", status, err)
	}

	src := newRepo(t)
	commit(t, src, "bad\n")
	if out, err := g.push(src, "testing"); err == nil || !strings.Contains(out, "formula:1:1: cannot use") {
		t.Errorf("got %v\n%s", err, out)
	}
	if out, err := g.push(src, "gitolite-admin"); err != nil {
		t.Errorf("a repository without our configuration: %v\n%s", err, out)
	}
	at := commit(t, src, "good\n")
	out, err := g.push(src, "testing")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wantWords(t, out, "/events/"+delivery(t, <-s.got))
	wantWords(t, read(t, trace), at+" refs/heads/main")

	if err := Uninstall(o.GitDir); err != nil {
		t.Fatal(err)
	}
	if after := snapshot(t, filepath.Dir(common)); !reflect.DeepEqual(after, before) {
		t.Errorf("gitolite's hooks are %v\nand were %v", after, before)
	}
	commit(t, src, "bad\n")
	if out, err := g.push(src, "testing"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestGitoliteKeepsTheHookForOthers holds that a shared hook goes with the last
// repository that uses it.
func TestGitoliteKeepsTheHookForOthers(t *testing.T) {
	common := filepath.Join(t.TempDir(), "hooks", "common")
	put(t, filepath.Join(common, "update"), "#!/bin/sh\n", 0o755)
	var repos []string
	for range 2 {
		bare := newRepo(t, "--bare")
		put(t, filepath.Join(bare, "gl-conf"), "", 0o644)
		if err := Install(options(t, bare, "http://h")); err == nil {
			t.Error("it is installed without knowing where")
		}
		if err := os.Symlink(filepath.Join(common, "update"), filepath.Join(bare, "hooks/update")); err != nil {
			t.Fatal(err)
		}
		if err := Install(options(t, bare, "http://h")); err != nil {
			t.Fatal(err)
		}
		repos = append(repos, bare)
	}
	for i, left := range []bool{true, false} {
		if err := Uninstall(repos[i]); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(common, "pre-receive")); (err == nil) != left {
			t.Errorf("after %d repositories: %v", i+1, err)
		}
	}
	if got := filesIn(filepath.Dir(common), "", ""); len(got) != 1 {
		t.Errorf("left are %q", got)
	}
	if err := os.Symlink("/elsewhere/pre-receive", filepath.Join(repos[1], "hooks/pre-receive")); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	o := options(t, repos[0], "http://h")
	o.Common = filepath.Join(common, "none")
	wantError(t, Install(o), "cannot use", "gitolite's directory of hooks")
}
