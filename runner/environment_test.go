package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestEnvironmentEncodes(t *testing.T) {
	a := Environment{Deb: []string{"b", "a", "b"}, Pip: []string{"x"}, Setup: []string{"one", "two"}}
	b := Environment{Deb: []string{"a", "b"}, Pip: []string{"x", "x"}, Setup: []string{"one", "two"}}
	if !bytes.Equal(a.Encode(), b.Encode()) {
		t.Errorf("%s and %s install the same", a.Encode(), b.Encode())
	}
	if a.Deb[0] != "b" {
		t.Error("Encode changed the environment")
	}
	seen := map[string]bool{}
	for _, e := range []Environment{
		{}, b, {Deb: []string{"a"}}, {RPM: []string{"a"}}, {Pip: []string{"a"}}, {Setup: []string{"a"}},
		{Setup: []string{"a", "a"}}, {Setup: []string{"a\na"}}, {Setup: []string{"two", "one"}}, {Deb: []string{"a,b"}}, {Deb: []string{"a", "b"}},
	} {
		if text := string(e.Encode()); seen[text] {
			t.Errorf("%s stands for two environments", text)
		} else {
			seen[text] = true
		}
	}
}

func TestParseFamily(t *testing.T) {
	for said, want := range map[string]family{
		"debian \n/usr/bin/apt-get\n":                     familyDeb,
		"ubuntu debian\n/usr/bin/apt-get\n/usr/bin/dnf\n": familyDeb,
		"fedora \n/usr/bin/apt-get\n/usr/bin/dnf\n":       familyRPM,
		"rocky rhel centos fedora\n/usr/bin/dnf\n":        familyRPM,
		"\n/usr/bin/dnf\n":                                familyRPM,
		"fedora \n":                                       familyNone,
		"\n":                                              familyNone,
		"":                                                familyNone,
		"x\nalias apt-get='rm -rf /'\n":                   familyNone,
		"apt-get\n":                                       familyNone,
		strings.Repeat("x", 1<<20) + "\n/sbin/apt-get\n/bin/dnf\n": familyDeb,
	} {
		if got := parseFamily(said); got != want {
			t.Errorf("%.60q is %q, want %q", said, got, want)
		}
	}
}

// guestFS is a machine that is a directory of this host: a shell runs in it, with
// programs that only note how they were called.
type guestFS struct {
	t    *testing.T
	root string
}

// newGuestFS makes a machine with these programs, shell scripts each.
func newGuestFS(t *testing.T, programs map[string]string) *guestFS {
	t.Helper()
	g := &guestFS{t: t, root: t.TempDir()}
	for name, script := range programs {
		g.write("bin/"+name, "#!/bin/sh\necho \""+name+" $*\" >>"+g.root+"/calls\n"+script+"\n")
	}
	g.write("etc/apt/sources.list", "deb [signed-by=/usr/share/keyrings/x.gpg] https://deb.example.org/debian bookworm main\n")
	g.write("etc/apt/sources.list.d/x.sources", "Types: deb\nURIs: https://sec.example.org/\n")
	g.write("etc/apt/apt.conf.d/10own", "// the image's own\n")
	g.write("etc/yum.repos.d/f.repo", "[f]\nbaseurl=https://f.example.org/\n")
	g.write("var/lib/apt/lists/x_Packages", "")
	for _, dir := range []string{"run", "var/cache/apt", "var/cache/debconf", "var/lib/dpkg"} {
		if err := os.MkdirAll(filepath.Join(g.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func (g *guestFS) write(name, text string) {
	g.t.Helper()
	path := filepath.Join(g.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		g.t.Fatal(err)
	}
}

func (g *guestFS) read(name string) string {
	data, err := os.ReadFile(filepath.Join(g.root, name))
	if err != nil {
		return ""
	}
	return string(data)
}

// Run runs a command whose absolute paths mean the machine's.
func (g *guestFS) Run(ctx context.Context, c Command) (int, error) {
	argv := slices.Clone(c.Argv)
	for _, dir := range []string{"/etc/", "/run/", "/var/"} {
		argv[3] = strings.ReplaceAll(argv[3], dir, g.root+dir)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = g.root
	cmd.Env = slices.Concat([]string{"PATH=" + g.root + "/bin:/usr/bin:/bin", "HOME=" + g.root}, c.Env)
	cmd.Stdout, cmd.Stderr = c.Stdout, c.Stderr
	cmd.WaitDelay = time.Minute
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return -1, fmt.Errorf("cannot finish the command: %w", ctx.Err())
	case errors.As(err, &exit):
		return exit.ExitCode(), nil
	case err != nil:
		return -1, err
	}
	return 0, nil
}

// debianPrograms look like Debian's: apt-get shows what it is configured with.
func debianPrograms() map[string]string {
	return map[string]string{
		"apt-get": `case "$*" in *" update") cat "$PWD/run/assay-environment/sources.list" "$PWD"/run/assay-environment/sources.list.d/* "$PWD/etc/apt/apt.conf.d/99assay-environment" >>"$PWD/seen"; esac
case "$*" in *"install --"*) env | grep -E '_proxy|^DEBIAN' | sort >"$PWD/env"; esac`,
		"python3": `case "$*" in *--version) test -e "$PWD/pip"; exit;; esac; env | grep -E '_proxy|^PIP_' | sort >"$PWD/pipenv"`,
		"dnf":     `exit 9`, // there, and not used
	}
}

func provisionIn(t *testing.T, g commander, e Environment, o ProvisionOptions) ([]string, error) {
	t.Helper()
	var told []string
	o.Tell = func(line string) { told = append(told, line) }
	return told, Provision(t.Context(), g, e, o)
}

func TestProvisionOnDebian(t *testing.T) {
	g := newGuestFS(t, debianPrograms())
	e := Environment{
		RPM: []string{"left-out"}, Deb: []string{"hello", "g++=1:2"}, Pip: []string{"six >= 1; x", "$(touch pwned)"},
		Setup: []string{"echo one $http_proxy >>setup\nfalse || echo two >>setup", "cat etc/apt/apt.conf.d/99* >conf; echo \"$0 $*\" >>setup"},
	}
	var output bytes.Buffer
	told, err := provisionIn(t, g, e, ProvisionOptions{
		Proxy: "127.0.0.1:3128", PipIndex: "http://pip.example.org:8080/simple", AptSettings: []string{`Acquire::Check-Date "false";`}, Output: &output,
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, &output)
	}
	sources := "-o Dir::Etc::sourcelist=" + g.root + "/run/assay-environment/sources.list -o Dir::Etc::sourceparts=" + g.root + "/run/assay-environment/sources.list.d"
	wantCalls := strings.Join([]string{
		"apt-get -q -o APT::Update::Error-Mode=any " + sources + " update",
		"apt-get -q -y --no-install-recommends " + sources + " install -- hello g++=1:2",
		"python3 -m pip --version",
		"apt-get -q -o APT::Update::Error-Mode=any " + sources + " update",
		"apt-get -q -y --no-install-recommends " + sources + " install -- python3-pip",
		"python3 -m pip install -- six >= 1; x $(touch pwned)",
		"apt-get clean",
	}, "\n") + "\n"
	if got := g.read("calls"); got != wantCalls {
		t.Errorf("ran\n%s\nwant\n%s", got, wantCalls)
	}
	for name, wants := range map[string][]string{
		"seen": {"deb [signed-by=/usr/share/keyrings/x.gpg] http://deb.example.org/debian bookworm main\n", "URIs: http://sec.example.org/\n",
			`Acquire::http::Proxy "http://127.0.0.1:3128";`, `Acquire::https::Proxy "http://127.0.0.1:3128";`, "force-unsafe-io", `Acquire::Check-Date "false";`},
		"env":    {"DEBIAN_FRONTEND=noninteractive\n", "http_proxy=http://127.0.0.1:3128\n", "https_proxy=http://127.0.0.1:3128\n"},
		"pipenv": {"PIP_BREAK_SYSTEM_PACKAGES=1\n", "PIP_INDEX_URL=http://pip.example.org:8080/simple\n", "PIP_TRUSTED_HOST=pip.example.org:8080\n", "https_proxy="},
		"setup":  {"one http://127.0.0.1:3128\ntwo\nsh \n"},
		"conf":   {"Acquire::http::Proxy"}, // a set-up command may use apt-get, too
	} {
		for _, want := range wants {
			if got := g.read(name); !strings.Contains(got, want) {
				t.Errorf("%s is\n%s\nwithout %q", name, got, want)
			}
		}
	}
	if want := "environment: left out rpm: left-out: this machine installs packages with apt-get"; !slices.Contains(told, want) {
		t.Errorf("told %q", told)
	}
	g.wantClean()
}

// wantClean looks for what an installation must not leave behind.
func (g *guestFS) wantClean() {
	g.t.Helper()
	if _, err := os.Stat(filepath.Join(g.root, "pwned")); err == nil {
		g.t.Error("a package's name was run")
	}
	err := filepath.WalkDir(g.root, func(path string, d os.DirEntry, err error) error {
		name := strings.TrimPrefix(path, g.root)
		if err == nil && (strings.Contains(name, "assay-environment") || strings.HasPrefix(name, "/var/lib/apt/lists/")) {
			g.t.Errorf("%s is left behind", name)
		}
		return err
	})
	if err != nil {
		g.t.Error(err)
	}
	if g.read("etc/apt/apt.conf.d/10own") == "" || !strings.Contains(g.read("etc/apt/sources.list"), "https://deb.example.org") {
		g.t.Error("the image's own configuration was changed")
	}
}

func TestProvisionOnFedora(t *testing.T) {
	g := newGuestFS(t, map[string]string{
		"dnf":     `case "$*" in *install*) cat "$PWD/run/assay-environment/repos/f.repo" >seen; esac`,
		"python3": `exit 0`, // pip is there
	})
	g.write("etc/os-release", "NAME='Fedora Linux'\nID=fedora\n")
	e := Environment{RPM: []string{"perl(Foo::Bar)", "foo >= 1"}, Deb: []string{"left-out"}, Pip: []string{"six"}}
	told, err := provisionIn(t, g, e, ProvisionOptions{Proxy: "[::1]:3128"})
	if err != nil {
		t.Fatal(err)
	}
	want := "dnf -y --setopt=reposdir=" + g.root + "/run/assay-environment/repos --setopt=install_weak_deps=False --setopt=retries=3 --setopt=timeout=120 " +
		"--setopt=skip_if_unavailable=False --setopt=proxy=http://[::1]:3128 install perl(Foo::Bar) foo >= 1\n" +
		"python3 -m pip --version\npython3 -m pip install -- six\ndnf -q clean all\n"
	if got := g.read("calls"); got != want {
		t.Errorf("ran\n%s\nwant\n%s", got, want)
	}
	if got := g.read("seen"); got != "[f]\nbaseurl=http://f.example.org/\n" {
		t.Errorf("dnf sees %q", got)
	}
	if want := "environment: left out deb: left-out: this machine installs packages with dnf"; !slices.Contains(told, want) {
		t.Errorf("told %q", told)
	}
	if _, err := os.Stat(filepath.Join(g.root, "run/assay-environment")); err == nil {
		t.Error("the copied repositories are left behind")
	}
}

func TestProvisionWithoutProxy(t *testing.T) {
	g := newGuestFS(t, debianPrograms())
	if _, err := provisionIn(t, g, Environment{Deb: []string{"hello"}, Setup: []string{"env >setupenv"}}, ProvisionOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"seen", "env", "setupenv"} {
		if got := g.read(name); got == "" || strings.Contains(got, "http_proxy") || strings.Contains(got, "::Proxy") {
			t.Errorf("%s is %q", name, got)
		}
	}
}

func TestProvisionNothing(t *testing.T) {
	if err := Provision(t.Context(), nil, Environment{}, ProvisionOptions{}); err != nil {
		t.Error(err)
	}
}

// failingDebian is Debian with one program that fails as the real one does.
func failingDebian(t *testing.T, program, when, says string, exit int) *guestFS {
	t.Helper()
	programs := debianPrograms()
	programs["python3"] = "exit 0"
	programs[program] = fmt.Sprintf("case \"$*\" in *%s*) cat <<'END-OF-IT'\n%s\nEND-OF-IT\nexit %d;; esac", when, says, exit)
	return newGuestFS(t, programs)
}

// TestWhoseFault has what real apt-get 2.6, dnf 4.14 and pip 23.0 print.
func TestWhoseFault(t *testing.T) {
	for _, c := range []struct {
		name, program, when, says string
		exit                      int
		mistake                   bool
		say                       string
	}{
		{"no such package", "apt-get", "install", "Reading package lists...\nBuilding dependency tree...\nE: Unable to locate package helo", 100, true, "E: Unable to locate package helo"},
		{"no such version", "apt-get", "install", "E: Version '9' for 'hello' was not found", 100, true, "Version '9'"},
		{"no candidate", "apt-get", "install", "Package x is not available, but is referred to by another package.\nE: Package 'x' has no installation candidate", 100, true, "no installation candidate"},
		{"dependencies", "apt-get", "install", "The following packages have unmet dependencies:\n a : Depends: b but it is not installable\nE: Unable to correct problems, you have held broken packages.", 100, true, "held broken"},
		{"maintainer's script", "apt-get", "install", "dpkg: error processing package x (--configure):\nErrors were encountered while processing:\n x\nE: Sub-process /usr/bin/dpkg returned an error code (1)", 100, true, "Sub-process"},
		{"disk full", "apt-get", "install", "E: Failed to fetch http://x/y.deb  Write error - write (28: No space left on device)", 100, true, "No space left"},
		{"disk too small", "apt-get", "install", "E: You don't have enough free space in /var/cache/apt/archives/.", 100, true, "free space"},
		{"proxy refuses", "apt-get", "update", "Err:1 http://deb.example.org/debian bookworm InRelease\n  403  Forbidden [IP: 127.0.0.1 3128]\nE: Failed to fetch http://deb.example.org/debian/dists/bookworm/InRelease  403  Forbidden [IP: 127.0.0.1 3128]", 100, false, "403  Forbidden"},
		{"proxy gone", "apt-get", "update", "W: Failed to fetch http://x/InRelease  Could not connect to 127.0.0.1:3128 (127.0.0.1). - connect (111: Connection refused)\nE: Some index files failed to download.", 100, false, "Some index files"},
		{"an older apt goes on", "apt-get", "update", "W: Failed to fetch http://x/InRelease  Temporary failure resolving 'x'\nW: Some index files failed to download. They have been ignored, or old ones used instead.", 0, false, "exited with 0"},
		{"mirror in motion", "apt-get", "install", "E: Failed to fetch http://x/y.deb  404  Not Found\nE: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?", 100, false, "404"},
		{"no such package, for there are no lists", "apt-get", "install", "Err:1 http://x\nE: Unable to locate package hello", 100, false, "Err:1 http://x"},
		{"something else", "apt-get", "install", "E: the world has ended", 100, false, "the world"},
		{"killed", "apt-get", "install", "", 137, false, "exited with 137"},
		{"no such project", "python3", "install", "ERROR: Could not find a version that satisfies the requirement nosuch (from versions: none)\nERROR: No matching distribution found for nosuch", 1, true, "Could not find a version"},
		{"conflict", "python3", "install", "ERROR: Cannot install a and b because these package versions have conflicting dependencies.\nERROR: ResolutionImpossible: for help", 1, true, "Cannot install a and b"},
		{"does not build", "python3", "install", "  error: subprocess-exited-with-error\nERROR: Failed building wheel for x", 1, true, "subprocess-exited"},
		{"index not allowed", "python3", "install", "WARNING: Retrying (Retry(total=4)) after connection broken by 'ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 403 Forbidden'))': /simple/six/\nERROR: Could not find a version that satisfies the requirement six (from versions: none)", 1, false, "Tunnel connection failed: 403"},
		{"index broken", "python3", "install", "ERROR: HTTP error 502 while getting http://x/six.whl", 1, false, "HTTP error 502"},
		{"tidying", "apt-get", "clean", "E: Could not open lock file", 100, false, "tidy up"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := failingDebian(t, c.program, c.when, c.says, c.exit)
			_, err := provisionIn(t, g, Environment{Deb: []string{"hello"}, Pip: []string{"six"}}, ProvisionOptions{Proxy: "127.0.0.1:1"})
			wantProvisionError(t, err, c.mistake, c.say)
			var e *ProvisionError
			if errors.As(err, &e) && (e.Exit != c.exit || !strings.Contains(e.Output, strings.TrimSpace(c.says))) {
				t.Errorf("got %d with %q", e.Exit, e.Output)
			}
		})
	}
}

func TestWhoseFaultOnFedora(t *testing.T) {
	for says, mistake := range map[string]bool{
		"No match for argument: nosuch\nError: Unable to find a match: nosuch":                                                true,
		"Error: \n Problem: conflicting requests\n  - nothing provides x needed by y":                                         true,
		"Error: Failed to download metadata for repo 'f': Cannot download repomd.xml: All mirrors were tried":                 false,
		"Errors during downloading metadata for repository 'f':\n  - Status code: 403 for http://f.example.org/repodata":      false,
		"Error: Transaction test error:\n  installing package x needs 10MB more space on the / filesystem: more space needed": true,
		"Error: something new": false,
	} {
		g := newGuestFS(t, map[string]string{"dnf": "cat <<'END-OF-IT'\n" + says + "\nEND-OF-IT\nexit 1"})
		g.write("etc/os-release", "ID=rocky\nID_LIKE='rhel centos fedora'\n")
		_, err := provisionIn(t, g, Environment{RPM: []string{"x"}}, ProvisionOptions{})
		wantProvisionError(t, err, mistake, "dnf install x exited with 1: ")
	}
}

func wantProvisionError(t *testing.T, err error, mistake bool, say string) {
	t.Helper()
	var e *ProvisionError
	switch {
	case !errors.As(err, &e):
		t.Errorf("got %v", err)
	case e.Mistake != mistake || !strings.Contains(err.Error(), say) || !strings.HasPrefix(err.Error(), "cannot install the environment: "):
		t.Errorf("mistake %t, %q; want %t, %q", e.Mistake, err, mistake, say)
	case strings.ContainsAny(err.Error(), "\n\x1b"):
		t.Errorf("%q is no plain line", err)
	}
}

func TestSetupThatFails(t *testing.T) {
	for command, say := range map[string]string{
		"echo first\nfalse\necho never >never": "setup command 1: echo first false echo never >never exited with 1: first",
		"printf '\\033[2Jred\\n'; exit 7":      "exited with 7: [2Jred",
		"kill -9 $$":                           "exited with",
		"no-such-command":                      "exited with 127",
		"echo 'E: Failed to fetch'; exit 1":    "Failed to fetch", // the formula's, whatever it prints
	} {
		g := newGuestFS(t, debianPrograms())
		_, err := provisionIn(t, g, Environment{Setup: []string{command, "touch never"}}, ProvisionOptions{})
		wantProvisionError(t, err, true, say)
		if _, err := os.Stat(filepath.Join(g.root, "never")); err == nil {
			t.Errorf("%q: it went on", command)
		}
	}
}

// 75 is a set-up command's own word that nobody is to blame, and no other step's.
func TestSetupThatIsWorthAnotherAttempt(t *testing.T) {
	g := newGuestFS(t, debianPrograms())
	_, err := provisionIn(t, g, Environment{Setup: []string{"echo the mirror is away; exit 75"}}, ProvisionOptions{})
	wantProvisionError(t, err, false, "exited with 75: the mirror is away")
}

// dying is a machine that dies at a step whose script holds a text.
type dying struct {
	*guestFS
	at  string
	err error
}

func (d dying) Run(ctx context.Context, c Command) (int, error) {
	if strings.Contains(c.Argv[3], d.at) {
		_, _ = io.WriteString(c.Stderr, "last words\n")
		return -1, d.err
	}
	return d.guestFS.Run(ctx, c)
}

func TestMachineDiesWhileProvisioned(t *testing.T) {
	e := Environment{Deb: []string{"hello"}, Setup: []string{"true poweroff"}}
	for _, at := range []string{"os-release", "update", "install", "poweroff", "clean"} {
		m := dying{newGuestFS(t, debianPrograms()), at, fmt.Errorf("%w: gone", ErrMachineDied)}
		_, err := provisionIn(t, m, e, ProvisionOptions{})
		wantProvisionError(t, err, at == "poweroff", "the machine died: gone")
		if !errors.Is(err, ErrMachineDied) {
			t.Errorf("at %s: %v", at, err)
		}
	}
	m := dying{newGuestFS(t, debianPrograms()), "poweroff", fmt.Errorf("%w: killed", ErrMachineLost)}
	_, err := provisionIn(t, m, e, ProvisionOptions{})
	wantProvisionError(t, err, false, "killed") // by the host, at the worst moment
}

// endless is a machine in which one step has no end, and every other is done.
type endless struct{ at string }

func (m endless) Run(ctx context.Context, c Command) (int, error) {
	if strings.Contains(c.Argv[3], m.at) {
		<-ctx.Done()
		return -1, fmt.Errorf("cannot finish the command: %w", ctx.Err())
	}
	_, err := io.WriteString(c.Stdout, "debian\n/usr/bin/apt-get\n")
	return 0, err
}

func TestProvisionTakesTooLong(t *testing.T) {
	e := Environment{Deb: []string{"hello"}, Setup: []string{"for ever"}}
	for at, mistake := range map[string]bool{"for ever": true, "update": false, "clean": false} {
		synctest.Test(t, func(t *testing.T) {
			_, err := provisionIn(t, endless{at}, e, ProvisionOptions{})
			wantProvisionError(t, err, mistake, "longer than an environment may (30m0s)")
		})
	}
}

func TestProvisionIsStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	g := newGuestFS(t, debianPrograms())
	e := Environment{Setup: []string{"exec sleep 1000"}}
	err := Provision(ctx, g, e, ProvisionOptions{Tell: func(line string) {
		if strings.Contains(line, "setup") {
			cancel()
		}
	}})
	wantProvisionError(t, err, false, "setup command 1")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestEnvironmentIsChecked(t *testing.T) {
	long := slices.Repeat([]string{strings.Repeat("x", 1000)}, 100)
	for name, e := range map[string]Environment{
		"option":        {Deb: []string{"-o", "x"}},
		"line end":      {RPM: []string{"a\nb"}},
		"zero byte":     {Pip: []string{"a\x00b"}},
		"empty":         {Deb: []string{""}},
		"many":          {Deb: long},
		"zero in setup": {Setup: []string{"echo \x00"}},
		"long setup":    {Setup: []string{strings.Repeat("x", maxPackages+1)}},
	} {
		_, err := provisionIn(t, dying{at: "", err: errors.New("a command was run")}, e, ProvisionOptions{})
		wantProvisionError(t, err, true, "the formula: cannot")
		if err != nil && strings.Contains(err.Error(), "a command was run") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestImageWithoutPackageManager(t *testing.T) {
	bare := bareMachine{}
	_, err := provisionIn(t, bare, Environment{Deb: []string{"x"}}, ProvisionOptions{})
	wantProvisionError(t, err, true, "neither apt-get nor dnf")
	if _, err := provisionIn(t, bare, Environment{Setup: []string{"true"}}, ProvisionOptions{}); err != nil {
		t.Errorf("a set-up command alone: %v", err)
	}
}

// bareMachine has nothing in it, and does all that it is asked.
type bareMachine struct{}

func (bareMachine) Run(_ context.Context, c Command) (int, error) {
	_, err := io.WriteString(c.Stdout, "\n")
	return 0, err
}

func TestMuchOutput(t *testing.T) {
	g := newGuestFS(t, debianPrograms())
	var output bytes.Buffer
	_, err := provisionIn(t, g, Environment{Setup: []string{"head -c 1000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 3"}}, ProvisionOptions{Output: &output})
	wantProvisionError(t, err, true, "exited with 3: the end")
	var e *ProvisionError
	if errors.As(err, &e) && (len(e.Output) > maxSaid || !strings.HasSuffix(e.Output, "the end\n")) {
		t.Errorf("%d bytes are kept", len(e.Output))
	}
	if output.Len() < 1_000_000 {
		t.Errorf("%d bytes were handed on", output.Len())
	}
}

func FuzzTellingLine(f *testing.F) {
	f.Add("Reading\nE: Unable\n")
	f.Add("\x00\xff\nERROR: x")
	f.Fuzz(func(t *testing.T, output string) {
		tail := &outputTail{}
		_, _ = tail.Write([]byte(output))
		err := envStep{name: "x", kind: kindApt}.failure(1, tail.text())
		if text := err.Error(); strings.ContainsAny(text, "\n\r\x00\x1b") || len(text) > 1000 {
			t.Errorf("%q became %q", output, text)
		}
	})
}

// TestRefusedMirrorIsNamed has what apt prints when the proxy refuses a mirror.
func TestRefusedMirrorIsNamed(t *testing.T) {
	signs, _ := kindApt.signs()
	got := tellingLine("Err:1 http://mirror.example.org/debian bookworm InRelease\n  403  Forbidden [IP: 127.0.0.1 1]\nReading package lists...\n"+
		"E: The repository 'http://mirror.example.org/debian bookworm InRelease' is not signed.\n"+
		"E: Failed to fetch http://mirror.example.org/debian/dists/bookworm/InRelease  403  Forbidden [IP: 127.0.0.1 1]\n", signs)
	if !strings.HasPrefix(got, "E: Failed to fetch http://mirror.example.org/") {
		t.Errorf("it says %q", got)
	}
	if got := tellingLine("E: The repository 'x' is not signed.\n", signs); !strings.Contains(got, "is not signed") {
		t.Errorf("where nothing else is said, it says %q", got)
	}
}
