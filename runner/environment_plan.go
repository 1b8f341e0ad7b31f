package runner

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
)

// family is how a machine's distribution installs packages.
type family string

const (
	familyDeb  family = "apt-get"
	familyRPM  family = "dnf"
	familyNone family = ""
)

// detectScript says in one go what there is: the distribution's names in one
// line, then the paths of package managers.
const detectScript = `(. /etc/os-release 2>/dev/null && echo "$ID $ID_LIKE") || echo
command -v apt-get || :
command -v dnf || :`

// parseFamily reads what detectScript printed, which is the machine's word.
func parseFamily(said string) family {
	names, paths, _ := strings.Cut(said, "\n")
	has := map[family]bool{}
	for line := range strings.Lines(paths) {
		has[family(path.Base(strings.TrimSpace(line)))] = true
	}
	redHat := slices.ContainsFunc(strings.Fields(names), func(name string) bool {
		return slices.Contains([]string{"fedora", "rhel", "centos", "suse"}, name)
	})
	switch {
	case has[familyRPM] && (redHat || !has[familyDeb]):
		return familyRPM
	case has[familyDeb]:
		return familyDeb
	}
	return familyNone
}

// envStep is one command of an environment's installation.
type envStep struct {
	name   string // for people: "apt-get install hello"
	kind   envKind
	script string   // for /bin/sh -e
	args   []string // "$@" of the script
	env    []string
}

// envKind says whose words a step's output is made of.
type envKind int

const (
	kindOurs  envKind = iota // nothing of the formula is in it
	kindApt                  // apt-get and dpkg
	kindDnf                  // dnf
	kindPip                  // pip
	kindSetup                // the formula's own command
)

// command is the step for a Machine.
func (s envStep) command() Command {
	return Command{Argv: append([]string{"/bin/sh", "-e", "-c", s.script, "sh"}, s.args...), Dir: "/", Env: s.env}
}

// planEnvironment lists what to run in a machine of a family, and what to say
// about that which is left out. Everything that the steps configure, the last
// one takes back.
func planEnvironment(e Environment, f family, o ProvisionOptions) (steps []envStep, notes []string) {
	p := envPlan{options: o, env: proxyEnv(o)}
	switch f {
	case familyDeb:
		notes = leftOut(notes, "rpm", e.RPM, f)
		p.apt(e)
	case familyRPM:
		notes = leftOut(notes, "deb", e.Deb, f)
		p.dnf(e)
	}
	if len(e.Pip) > 0 {
		p.pip(e.Pip)
	}
	for i, text := range e.Setup {
		name := fmt.Sprintf("setup command %d: %s", i+1, clip(printable([]byte(strings.TrimSpace(text))), 80))
		p.add(envStep{name: name, kind: kindSetup, script: text, env: p.env})
	}
	p.tidy(f)
	return p.steps, notes
}

func leftOut(notes []string, kind string, names []string, f family) []string {
	if len(names) == 0 {
		return notes
	}
	return append(notes, fmt.Sprintf("environment: left out %s: %s: this machine installs packages with %s",
		kind, clip(strings.Join(names, " "), 200), f))
}

// envPlan collects the steps.
type envPlan struct {
	options ProvisionOptions
	env     []string // the variables of every step that may reach the network
	steps   []envStep
}

func (p *envPlan) add(s envStep) { p.steps = append(p.steps, s) }

// proxyEnv are the variables by which programs find the proxy, and pip its index.
func proxyEnv(o ProvisionOptions) []string {
	var env []string
	if o.Proxy != "" {
		for _, name := range []string{"http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"} {
			env = append(env, name+"=http://"+o.Proxy)
		}
		env = append(env, "no_proxy=localhost,127.0.0.1,::1")
	}
	if u, err := url.Parse(o.PipIndex); err == nil && u.Host != "" {
		env = append(env, "PIP_INDEX_URL="+o.PipIndex, "PIP_TRUSTED_HOST="+u.Host)
	}
	return env
}

// Where the configuration lies that only the installation needs.
const (
	aptConf  = "/etc/apt/apt.conf.d/99assay-environment"
	envState = "/run/assay-environment"
)

// aptSources make apt-get ask for archives with http://, so that the proxy can
// see and keep single packages; signatures are checked all the same.
const aptSources = "-o Dir::Etc::sourcelist=" + envState + "/sources.list -o Dir::Etc::sourceparts=" + envState + "/sources.list.d"

// aptPrepare writes aptConf from its arguments, a line each.
const aptPrepare = `printf '%s\n' "$@" >` + aptConf + `
mkdir -p ` + envState + `/sources.list.d
: >` + envState + `/sources.list
for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
	[ ! -f "$f" ] || sed 's,https://,http://,g' "$f" >` + envState + `"${f#/etc/apt}"
done`

// An apt that does not know Error-Mode goes on without an archive that it could
// not reach, and would then not find the package.
const aptUpdate = `apt-get -q -o APT::Update::Error-Mode=any ` + aptSources + ` update`

const aptInstall = `apt-get -q -y --no-install-recommends ` + aptSources + ` install -- "$@"`

// aptSettings are the lines of aptConf. What a machine that is thrown away need
// not care for, such as a power cut in the middle of dpkg, costs most of the time.
func aptSettings(o ProvisionOptions) []string {
	lines := []string{
		`Acquire::Retries "3";`, `Acquire::http::Timeout "120";`, `Acquire::Languages "none";`,
		`Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";`,
		`Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";`,
		`APT::Get::Assume-Yes "true";`, `Dpkg::Use-Pty "0";`,
		`Dpkg::Options { "--force-unsafe-io"; "--force-confdef"; "--force-confold"; };`,
	}
	if o.Proxy != "" {
		lines = append(lines, `Acquire::http::Proxy "http://`+o.Proxy+`";`, `Acquire::https::Proxy "http://`+o.Proxy+`";`)
	}
	return append(lines, o.AptSettings...)
}

// apt installs packages. It prepares apt-get for the formula's own commands, too.
func (p *envPlan) apt(e Environment) {
	env := append(slices.Clone(p.env), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8")
	p.env = append(p.env, "DEBIAN_FRONTEND=noninteractive")
	p.add(envStep{name: "prepare apt-get", script: aptPrepare, args: aptSettings(p.options)})
	if len(e.Deb) > 0 {
		p.add(envStep{name: "apt-get update", kind: kindApt, script: aptUpdate, env: env})
		p.add(envStep{name: packagesName("apt-get install", e.Deb), kind: kindApt, script: aptInstall, args: e.Deb, env: env})
	}
	if len(e.Pip) > 0 {
		p.add(envStep{name: "apt-get install python3-pip", kind: kindApt, args: []string{"python3-pip"}, env: env,
			script: hasPip + ` || { ` + aptUpdate + `; ` + aptInstall + `; }`})
	}
}

// hasPip succeeds where pip is installed already.
const hasPip = `python3 -m pip --version >/dev/null 2>&1`

// dnfPrepare copies the repositories' files for the same reason as aptPrepare.
const dnfPrepare = `mkdir -p ` + envState + `/repos
for f in /etc/yum.repos.d/*.repo; do
	[ ! -f "$f" ] || sed 's,https://,http://,g' "$f" >` + envState + `/repos/"${f##*/}"
done`

// dnf installs packages.
func (p *envPlan) dnf(e Environment) {
	install := `dnf -y --setopt=reposdir=` + envState + `/repos --setopt=install_weak_deps=False --setopt=retries=3 --setopt=timeout=120 --setopt=skip_if_unavailable=False`
	if p.options.Proxy != "" {
		install += ` --setopt=proxy=http://` + p.options.Proxy
	}
	install += ` install "$@"`
	env := append(slices.Clone(p.env), "LC_ALL=C.UTF-8")
	p.add(envStep{name: "prepare dnf", script: dnfPrepare})
	if len(e.RPM) > 0 {
		p.add(envStep{name: packagesName("dnf install", e.RPM), kind: kindDnf, script: install, args: e.RPM, env: env})
	}
	if len(e.Pip) > 0 {
		p.add(envStep{name: "dnf install python3-pip", kind: kindDnf, args: []string{"python3-pip"}, env: env,
			script: hasPip + ` || ` + install})
	}
}

// pip installs into the system's own Python, which is what a check runs with;
// PEP 668 lets whoever made the system say so.
func (p *envPlan) pip(names []string) {
	env := append(slices.Clone(p.env), "PIP_BREAK_SYSTEM_PACKAGES=1", "PIP_ROOT_USER_ACTION=ignore",
		"PIP_NO_INPUT=1", "PIP_NO_CACHE_DIR=1", "PIP_DISABLE_PIP_VERSION_CHECK=1", "PIP_PROGRESS_BAR=off",
		"PIP_DEFAULT_TIMEOUT=120", "LC_ALL=C.UTF-8")
	p.add(envStep{name: packagesName("pip install", names), kind: kindPip, script: `python3 -m pip install -- "$@"`, args: names, env: env})
}

// tidy takes back every setting, and removes what a frozen machine would carry
// along for nothing.
func (p *envPlan) tidy(f family) {
	script := `rm -rf ` + envState
	switch f {
	case familyDeb:
		script += ` ` + aptConf + `
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/lib/dpkg/*-old`
	case familyRPM:
		script += `
dnf -q clean all`
	}
	p.add(envStep{name: "tidy up", script: script})
}

func packagesName(what string, names []string) string {
	return clip(what+" "+strings.Join(names, " "), 200)
}
