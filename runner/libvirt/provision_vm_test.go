package libvirt

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/proxy"
)

// told collects what an execution's log is told.
type told struct {
	mu    sync.Mutex
	lines []string
}

func (l *told) tell(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

// has tells whether one line has all these words in it.
func (l *told) has(words ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.lines, func(line string) bool {
		return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) })
	})
}

func (l *told) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// mirrors counts what the proxy asks the real mirrors for.
type mirrors struct {
	next http.RoundTripper

	mu    sync.Mutex
	asked []string // paths
}

func newMirrors() *mirrors {
	next := http.DefaultTransport.(*http.Transport).Clone()
	next.DisableCompression = true // as the proxy's own
	return &mirrors{next: next}
}

func (m *mirrors) RoundTrip(r *http.Request) (*http.Response, error) {
	m.mu.Lock()
	m.asked = append(m.asked, r.URL.Path)
	m.mu.Unlock()
	return m.next.RoundTrip(r)
}

// packages counts packages of a name that were asked for.
func (m *mirrors) packages(name string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	count := 0
	for _, path := range m.asked {
		if base := filepath.Base(path); strings.HasPrefix(base, name+"_") && strings.HasSuffix(base, ".deb") {
			count++
		}
	}
	return count
}

// hostPackages is the way to packages that the server has by default: this host's
// own mirrors, by a proxy that keeps what it fetches.
func hostPackages(t *testing.T, upstream http.RoundTripper) Packages {
	t.Helper()
	allow, err := proxy.HostMirrors(t.Context())
	if err != nil || len(allow) == 0 {
		t.Fatalf("this host has no mirrors: %v", err)
	}
	settings, err := proxy.AptSettings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return Packages{Proxy: newProxy(t, proxy.Options{Allow: allow, Cache: t.TempDir(), Upstream: upstream}), AptSettings: settings}
}

func newProxy(t *testing.T, options proxy.Options) *proxy.Proxy {
	t.Helper()
	p, err := proxy.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// provisioning is what the tests of environments share.
type provisioning struct {
	*Machines
	mirrors *mirrors
	now     Packages // the way to packages of the next installation
}

// TestProvision installs environments in real machines, which have no network,
// from the mirrors of this host. Where machines are emulated a template takes a
// minute, so there are few: what comes after the first is about its forks.
func TestProvision(t *testing.T) {
	t.Parallel()
	p := &provisioning{mirrors: newMirrors()}
	p.now = hostPackages(t, p.mirrors)
	options := optionsIn(place(t))
	options.Packages = func(context.Context) (Packages, error) { return p.now, nil }
	p.Machines = openMachines(t, options)
	t.Run("a package and a command", func(t *testing.T) { p.installed(t) })
	t.Run("a command that fails, after a package from the cache", func(t *testing.T) { p.failingSetup(t) })
	t.Run("a package that does not exist", func(t *testing.T) { p.noSuchPackage(t) })
	t.Run("a mirror that is not allowed", func(t *testing.T) { p.notAllowed(t) })
	t.Run("a template that is not clean", func(t *testing.T) { stained(t, p.Machines) })
	if s := p.Stats(); s.Cold != 0 || s.Fallbacks != 0 {
		t.Errorf("an environment that cannot be installed was tried again from nothing: %+v", s)
	}
}

// portScript leaves the proxy's port behind, so written that a search for the
// proxy's address does not find it.
const portScript = `echo "${http_proxy##*:}" | tr 0-9 a-j > /var/tmp/port`

// greeted is a machine with an environment that can be installed.
func (p *provisioning) greeted(t *testing.T, log *told) *Machine {
	t.Helper()
	one, err := p.Boot(t.Context(), runner.Spec{
		Execution: "installed", Tell: log.tell,
		Environment: runner.Environment{Deb: []string{"hello"}, Setup: []string{"hello > /etc/greeting", portScript, stainScript}},
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	t.Cleanup(func() { _ = one.Close() })
	return one.(*Machine)
}

func (p *provisioning) installed(t *testing.T) {
	var log told
	one := p.greeted(t, &log)
	if s := p.Stats(); s.TemplatesMade != 1 || s.Fresh != 1 {
		t.Errorf("it is no fork of a template: %+v\n%s", s, &log)
	}
	if got := output(t, one, "hello; cat /etc/greeting"); got != "Hello, world!\nHello, world!" {
		t.Errorf("the package and the command left %q", got)
	}
	for _, step := range []string{"apt-get update", "apt-get install hello", "setup command 1: hello > /etc/greeting"} {
		if !log.has("environment: " + step) {
			t.Errorf("the log does not tell of %q:\n%s", step, &log)
		}
	}
	if got := p.mirrors.packages("hello"); got != 1 {
		t.Errorf("the mirror was asked for the package %d times", got)
	}
	forgetsProxy(t, one)
	noCard(t, one)
}

// forgetsProxy looks for whatever an installation might have left of the proxy.
func forgetsProxy(t *testing.T, one runner.Machine) {
	t.Helper()
	port := strings.Map(func(r rune) rune { return r - 'a' + '0' }, output(t, one, "cat /var/tmp/port"))
	if port == "" || strings.Trim(port, "0123456789") != "" {
		t.Fatalf("the installation had the proxy at port %q", port)
	}
	traces := map[string]string{
		"a file names it":         "grep -rlsF 127.0.0.1:" + port + " /etc /home /opt /root /run /srv /tmp /usr/local /var",
		"apt is told of it":       "apt-config dump | grep -i proxy",
		"a process is told of it": "grep -lsai _proxy= /proc/[0-9]*/environ",
		"a command is told of it": "env | grep -i proxy",
		"something listens":       "ss -Hltn",
		"something of it is left": "ls -d /run/assay-environment /etc/apt/apt.conf.d/*assay* 2>/dev/null",
	}
	got := outputs(t, one, slices.Collect(maps.Values(traces)))
	for what, script := range traces {
		if got[script] != "" {
			t.Errorf("%s: %s", what, got[script])
		}
	}
}

// noCard checks that a machine has no network.
func noCard(t *testing.T, one runner.Machine) {
	t.Helper()
	if got := output(t, one, "ls /sys/class/net"); got != "lo" {
		t.Errorf("a machine without a network has %q", got)
	}
}

// boot wants an environment that cannot be installed.
func (p *provisioning) boot(t *testing.T, e runner.Environment, log *told) *runner.ProvisionError {
	t.Helper()
	one, err := p.Boot(t.Context(), runner.Spec{Execution: "refused", Environment: e, Tell: log.tell})
	if err == nil {
		_ = one.Close()
	}
	var failed *runner.ProvisionError
	if !errors.As(err, &failed) {
		t.Fatalf("the error is %v\n%s", err, log)
	}
	nothingLeft(t, p.Machines)
	return failed
}

func (p *provisioning) failingSetup(t *testing.T) {
	var log told
	failed := p.boot(t, runner.Environment{Deb: []string{"hello"}, Setup: []string{"hello; echo it is broken >&2; exit 3"}}, &log)
	if !failed.Mistake || failed.Exit != 3 || !strings.Contains(failed.Output, "Hello, world!\nit is broken\n") {
		t.Errorf("got %+v", failed)
	}
	if got := p.mirrors.packages("hello"); got != 1 {
		t.Errorf("the mirror was asked for the package %d times: once was enough", got)
	}
}

// noSuchPackage installs in a machine that is there already: that Boot hands such
// an error on has been seen by then.
func (p *provisioning) noSuchPackage(t *testing.T) {
	var log told
	one := p.greeted(t, &log)
	if s := p.Stats(); s.TemplatesMade != 1 || s.Fresh != 2 {
		t.Errorf("the same environment is no second fork of one template: %+v\n%s", s, &log)
	}
	w, err := p.want(t.Context(), runner.Spec{Environment: runner.Environment{Deb: []string{"assay-no-such-package"}}, Tell: log.tell})
	if err != nil {
		t.Fatal(err)
	}
	err = p.provision(t.Context(), one, w)
	var failed *runner.ProvisionError
	if !errors.As(err, &failed) {
		t.Fatalf("the error is %v\n%s", err, &log)
	}
	if !failed.Mistake || !strings.Contains(failed.Error(), "Unable to locate package assay-no-such-package") {
		t.Errorf("got %v, a mistake: %t; it printed\n%s", failed, failed.Mistake, failed.Output)
	}
}

func (p *provisioning) notAllowed(t *testing.T) {
	rule, err := proxy.ParseRule("https://mirror.example.org/debian/")
	if err != nil {
		t.Fatal(err)
	}
	p.now.Proxy = newProxy(t, proxy.Options{Allow: []proxy.Rule{rule}})
	var log told
	failed := p.boot(t, runner.Environment{Deb: []string{"hello"}}, &log)
	if failed.Mistake || !strings.Contains(failed.Error(), "403") {
		t.Errorf("got %v, a mistake: %t; it printed\n%s", failed, failed.Mistake, failed.Output)
	}
	if !log.has("the proxy answered 403 to GET http://", "the setting machines.mirrors allows more") {
		t.Errorf("the log does not tell of the refusal:\n%s", &log)
	}
}
