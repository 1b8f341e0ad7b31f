// Package config is what an operator can set: one struct, read from one YAML
// file. Every default works without a file.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// Config is the whole configuration. config/example.yml documents every key and
// a test keeps the two together.
type Config struct {
	Listen   string    `yaml:"listen"`   // host:port; port 0 takes a free one
	URL      string    `yaml:"url"`      // the server's address as others reach it; "" for http://LISTEN
	Data     string    `yaml:"data"`     // directory of everything the server keeps
	Webhook  Webhook   `yaml:"webhook"`  // who may report events
	Packages []Package `yaml:"packages"` // what is checked
	Forges   Forges    `yaml:"forges"`   // where statuses go
	Comments string    `yaml:"comments"` // when the one comment is written: "failure", "always", "never"
	Builds   Builds    `yaml:"builds"`   // where builds are downloaded from
	Fetch    Fetch     `yaml:"fetch"`    // where formulas' directives download from
	Machines Machines  `yaml:"machines"` // what checks run on
	Limits   Limits    `yaml:"limits"`   // what one execution may take
	Keep     Keep      `yaml:"keep"`     // how long it is all kept
	Log      Log       `yaml:"log"`      // the server's own log
	// CheckSecrets are what formulas may ask for under secrets.
	CheckSecrets []Secret `yaml:"secrets"`
}

// Webhook says how deliveries are authenticated.
type Webhook struct {
	// SecretFiles hold one secret each; every one is valid, so that a secret can
	// be changed without a gap.
	SecretFiles []string `yaml:"secret_files"`
	// Scoped secrets are good for some repositories only.
	Scoped []ScopedSecret `yaml:"scoped"`
	// MaxAge refuses older deliveries of those who sign when they sent them.
	MaxAge time.Duration `yaml:"max_age"`
	// Unsigned takes deliveries without a signature; only on a loopback address.
	Unsigned bool `yaml:"unsigned"`
	// ShowBodies shows the bodies of deliveries on their pages, which everybody sees.
	ShowBodies bool `yaml:"show_bodies"`
}

// ScopedSecret is good for the events of some repositories.
type ScopedSecret struct {
	Repository  string   `yaml:"repository"`   // "codeberg.org/owner/*"
	SecretFiles []string `yaml:"secret_files"` // as Webhook.SecretFiles
}

// Package says where the repositories of a package, or of many, are.
type Package struct {
	Name   string `yaml:"name"`   // "rpms/hello"; one * stands for one path element
	Checks string `yaml:"checks"` // address of the check repository; * as in name
	Source string `yaml:"source"` // address of the package's own repository, where statuses land
	// Network lets its formulas ask for a machine with a network.
	Network bool   `yaml:"network"`
	Branch  string `yaml:"branch"` // check branch to use when there is none for the release
	// Watch is how often both repositories are asked for new commits, where no
	// webhook can be had; 0 for not at all.
	Watch time.Duration `yaml:"watch"`
}

// Package is the entry as the rest of the program knows it.
func (p Package) Package() assay.Package {
	return assay.Package{Name: p.Name, Checks: p.Checks, Source: p.Source, Branch: p.Branch, Network: p.Network}
}

// Forges holds the credentials for each forge.
type Forges struct {
	GitHub GitHub `yaml:"github"`
	Gitea  []Host `yaml:"gitea"` // Forgejo, too
	GitLab []Host `yaml:"gitlab"`
	Pagure []Host `yaml:"pagure"`
}

// Host is a server of a forge.
type Host struct {
	URL       string `yaml:"url"`        // as browsers reach it
	TokenFile string `yaml:"token_file"` // a token that may write statuses and comments
}

// GitHub is github.com or a GitHub Enterprise server.
type GitHub struct {
	TokenFile string   `yaml:"token_file"` // a token that may write commit statuses and comments
	API       string   `yaml:"api"`        // base address of the API
	Hosts     []string `yaml:"hosts"`      // repositories on these hosts are GitHub's
	App       App      `yaml:"app"`        // instead of a token
}

// App is a GitHub App.
type App struct {
	ID      int64  `yaml:"id"`
	KeyFile string `yaml:"key_file"` // its private key
}

// Keep says for how long things are kept; 0 for ever.
type Keep struct {
	Deliveries time.Duration `yaml:"deliveries"` // headers and bodies of what was delivered
	Executions time.Duration `yaml:"executions"` // with logs and artifacts
	Events     time.Duration `yaml:"events"`     // of which no execution is left
}

// Builds says which downloads are allowed.
type Builds struct {
	From []string `yaml:"from"` // address prefixes that built packages may come from
}

// Machines says what checks run on.
type Machines struct {
	Kind   string `yaml:"kind"`   // "libvirt", or "local": this host, without any protection
	URI    string `yaml:"uri"`    // libvirt's; "" for qemu:///system as root, qemu:///session otherwise
	Image  string `yaml:"image"`  // for formulas that name none
	Images string `yaml:"images"` // directory of the images; "" for the user's own
	Count  int    `yaml:"count"`  // how many run at the same time
	// PerPackage is how many executions of one package run at the same time; 0 for
	// any number.
	PerPackage int    `yaml:"per_package"`
	KVM        string `yaml:"kvm"`   // "auto" proves it first, "yes" and "no" decide
	Agent      string `yaml:"agent"` // path of assay-agent; "" beside the program
	// Templates says whether machines are forked from frozen ones: "on", or "off" to
	// boot each from nothing.
	Templates    string        `yaml:"templates"`
	TemplateAge  time.Duration `yaml:"template_age"`  // an older template is made anew
	TemplateRoom Size          `yaml:"template_room"` // what templates may take on the disk
	// Waiting is how many forks wait ready at most; -1 for as many as Count.
	Waiting       int  `yaml:"waiting"`
	WaitingMemory Size `yaml:"waiting_memory"` // what they may take together; 0 for a quarter of what is free
	// SelfTest is how often it is proved that machines are kept apart; 0 for never.
	SelfTest time.Duration `yaml:"selftest"`
	// Mirrors are address prefixes that environments may be installed from; without
	// any, those of this host's own package managers.
	Mirrors []string `yaml:"mirrors"`
	// PipIndex is the index that environments' pip asks, with http://; "" for this
	// host's own.
	PipIndex string `yaml:"pip_index"`
	// PrivateNetworks are networks, of those that are nobody's on the internet, that
	// machines with a network may reach: "10.20.0.0/16".
	PrivateNetworks []string `yaml:"private_networks"`
	// Hold is how long the machine of an execution that failed, crashed or errored
	// is kept for somebody to enter it; 0 for not at all.
	Hold time.Duration `yaml:"hold"`
	Held int           `yaml:"held"` // how many are kept at most, besides Count
}

// Private is PrivateNetworks, read.
func (m Machines) Private() ([]netip.Prefix, error) {
	var list []netip.Prefix
	for i, text := range m.PrivateNetworks {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("machines.private_networks[%d]: %q is no network: write it as 10.20.0.0/16", i, text)
		}
		list = append(list, prefix.Masked())
	}
	return list, nil
}

// Limits bounds one execution; 0 leaves the default.
type Limits struct {
	Time  time.Duration `yaml:"time"`
	Boot  time.Duration `yaml:"boot"`
	Setup time.Duration `yaml:"setup"`
	// Retries is how long to wait before each further attempt at an execution of
	// which nobody could tell how it would end: no machine, no clone.
	Retries []time.Duration `yaml:"retries"`
	// What a formula may ask of its machine.
	CPUs          int  `yaml:"cpus"`
	Memory        Size `yaml:"memory"`
	Disk          Size `yaml:"disk"`
	Log           Size `yaml:"log"`
	Artifacts     Size `yaml:"artifacts"`
	ArtifactFiles int  `yaml:"artifact_files"`
}

// Log says how the server's own log looks.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn, error
	Format string `yaml:"format"` // "json", "text", or "" for text on a terminal and json elsewhere
}

// Size is a number of bytes, written "512 MiB", "1GiB" or plain.
type Size int64

var sizeForm = regexp.MustCompile(`^([0-9]{1,12}) ?([KMGT]i?B?|B)?$`)

// UnmarshalYAML reads a size.
func (s *Size) UnmarshalYAML(n *yaml.Node) error {
	m := sizeForm.FindStringSubmatch(n.Value)
	if m == nil {
		return fmt.Errorf("line %d: cannot read %q as a size: write it as 512MiB or 1GiB", n.Line, n.Value)
	}
	v := int64(0)
	for _, digit := range m[1] {
		v = v*10 + int64(digit-'0')
	}
	if m[2] != "" {
		shift := 10 * uint(strings.IndexByte("BKMGT", m[2][0]))
		if v > math.MaxInt64>>shift {
			return fmt.Errorf("line %d: cannot take %q as a size: it is too large", n.Line, n.Value)
		}
		v <<= shift
	}
	*s = Size(v)
	return nil
}

// Default is the configuration without a file.
func Default() Config {
	return Config{
		Listen: "127.0.0.1:8087",
		Data:   DataHome(), Comments: "failure",
		Forges: Forges{GitHub: GitHub{API: "https://api.github.com/", Hosts: []string{"github.com"}}},
		Machines: Machines{
			Kind: "libvirt", Image: "debian-12", Count: 2, KVM: "auto", Held: 2,
			Templates: "on", TemplateAge: 24 * time.Hour, TemplateRoom: 8 << 30, Waiting: -1,
			SelfTest: time.Hour,
		},
		Limits: Limits{
			Retries: []time.Duration{2 * time.Second, 15 * time.Second, time.Minute},
			CPUs:    8, Memory: 8 << 30, Disk: 64 << 30,
		},
		Fetch:   defaultFetch(),
		Webhook: Webhook{MaxAge: day},
		Keep:    Keep{Deliveries: 30 * day, Executions: 365 * day, Events: 730 * day},
		Log:     Log{Level: "info"},
	}
}

const day = 24 * time.Hour

// DataHome is where a user's data lie, after the XDG Base Directory
// Specification; where that is silent, root's lie in /var/lib/assay, since
// libvirt's own user must be able to go there.
func DataHome() string {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "assay")
	}
	if os.Geteuid() == 0 {
		return "/var/lib/assay"
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "assay")
	}
	return filepath.Join(home, ".local", "share", "assay")
}

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// Load reads a file over the defaults. Relative paths in it are taken from the
// file's directory.
func Load(path string) (Config, error) {
	c := Default()
	f, err := os.Open(path)
	if err != nil {
		return c, fmt.Errorf("cannot read the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return c, fmt.Errorf("cannot read the configuration: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return c, fmt.Errorf("cannot read the configuration %s: %s", path, friendly(err))
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return c, fmt.Errorf("cannot find the configuration's directory: %w", err)
	}
	c.resolve(dir)
	if err := c.Validate(); err != nil {
		return c, fmt.Errorf("cannot use the configuration %s: %w", path, err)
	}
	return c, nil
}

// notFound is how yaml.v3 words an unknown key.
var notFound = regexp.MustCompile(`field (\S+) not found in type config\.\S+`)

// badDuration is how it words what is no time.
var badDuration = regexp.MustCompile("cannot unmarshal !![a-z]+ `([^`]*)` into time\\.Duration")

func friendly(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors:\n")
	text = notFound.ReplaceAllString(text, `unknown key "$1": see config/example.yml for those there are`)
	text = badDuration.ReplaceAllString(text, "cannot read $1 as a time: write a number with a unit, such as 90s, 10m or 2h")
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "; ")
}

// resolve makes relative paths absolute.
func (c *Config) resolve(dir string) {
	abs := func(p *string) {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	abs(&c.Data)
	abs(&c.Fetch.YumRepoInfo)
	abs(&c.Fetch.CacheDir)
	abs(&c.Machines.Images)
	abs(&c.Machines.Agent)
	abs(&c.Forges.GitHub.TokenFile)
	abs(&c.Forges.GitHub.App.KeyFile)
	for _, hosts := range [][]Host{c.Forges.Gitea, c.Forges.GitLab, c.Forges.Pagure} {
		for i := range hosts {
			abs(&hosts[i].TokenFile)
		}
	}
	for i := range c.Webhook.Scoped {
		for j := range c.Webhook.Scoped[i].SecretFiles {
			abs(&c.Webhook.Scoped[i].SecretFiles[j])
		}
	}
	c.resolveSecrets(dir)
	for i := range c.Webhook.SecretFiles {
		abs(&c.Webhook.SecretFiles[i])
	}
	for i := range c.Packages {
		for _, address := range []*string{&c.Packages[i].Checks, &c.Packages[i].Source} {
			if !remote.MatchString(*address) {
				abs(address)
			}
		}
	}
}

// remote tells a repository's URL, or its scp-like form host:path, from a path
// (git-clone(1), GIT URLS).
var remote = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]*://|[^/]+:)`)

// maxHold is how long a machine may be kept at most: each takes its memory.
const maxHold = 24 * time.Hour

// Validate names the first field that cannot work, and the cure.
func (c *Config) Validate() error {
	host, _, err := net.SplitHostPort(c.Listen)
	switch {
	case err != nil:
		return fmt.Errorf("listen: %q is no host:port: write 127.0.0.1:8087", c.Listen)
	case c.Webhook.Unsigned && !loopback(host):
		return fmt.Errorf("webhook.unsigned: only allowed on a loopback address, not on %q: set webhook.secret_files", c.Listen)
	case !filepath.IsAbs(c.Data):
		return fmt.Errorf("data: %q is not an absolute path", c.Data)
	case c.Limits.Time < 0 || c.Limits.Boot < 0 || c.Limits.Setup < 0 || c.Machines.TemplateAge < 0 || c.Machines.SelfTest < 0:
		return errors.New("limits: a time is negative: write it as 90s, 10m or 2h")
	case c.Limits.ArtifactFiles < 0:
		return errors.New("limits.artifact_files: is negative")
	case c.Limits.CPUs < 1 || c.Limits.Memory < 64<<20 || c.Limits.Disk < 64<<20:
		return errors.New("limits: cpus, memory and disk are what a formula may ask for: write at least 1, 64MiB and 64MiB")
	case len(c.Limits.Retries) > 9 || slices.ContainsFunc(c.Limits.Retries, func(d time.Duration) bool { return d < 0 || d > time.Hour }):
		return errors.New("limits.retries: write at most nine times of at most 1h, such as [2s, 15s, 1m]")
	case !slices.Contains([]string{"failure", "always", "never"}, c.Comments):
		return fmt.Errorf("comments: %q is unknown: write failure, always or never", c.Comments)
	case c.Machines.Kind != "libvirt" && c.Machines.Kind != "local":
		return fmt.Errorf("machines.kind: %q is unknown: write libvirt or local", c.Machines.Kind)
	case c.Machines.Count < 1 || c.Machines.Count > 1000:
		return fmt.Errorf("machines.count: %d is out of range: write 1 to 1000", c.Machines.Count)
	case c.Machines.PerPackage < 0:
		return errors.New("machines.per_package: is negative: write 0 for any number")
	case c.Machines.KVM != "auto" && c.Machines.KVM != "yes" && c.Machines.KVM != "no":
		return fmt.Errorf("machines.kvm: %q is unknown: write auto, yes or no", c.Machines.KVM)
	case c.Machines.Templates != "on" && c.Machines.Templates != "off":
		return fmt.Errorf("machines.templates: %q is unknown: write on or off", c.Machines.Templates)
	case c.Machines.Waiting < -1 || c.Machines.Waiting > 1000:
		return fmt.Errorf("machines.waiting: %d is out of range: write 0 to 1000, or -1 for as many as machines.count", c.Machines.Waiting)
	case c.Machines.Hold < 0 || c.Machines.Hold > maxHold:
		return fmt.Errorf("machines.hold: %s is out of range: write 0s to 24h, such as 10m", c.Machines.Hold)
	case c.Machines.Held < 1 || c.Machines.Held > 100:
		return fmt.Errorf("machines.held: %d is out of range: write 1 to 100; machines.hold: 0s keeps none", c.Machines.Held)
	}
	if _, err := c.Machines.Private(); err != nil {
		return err
	}
	return errors.Join(c.validURL("url", c.URL), c.validURL("forges.github.api", c.Forges.GitHub.API), c.validBuilds(), c.validFetch(),
		c.validHosts("gitea", c.Forges.Gitea), c.validHosts("gitlab", c.Forges.GitLab), c.validHosts("pagure", c.Forges.Pagure), c.validTimes(), c.validSecrets())
}

func (c *Config) validHosts(kind string, hosts []Host) error {
	for i, h := range hosts {
		field := fmt.Sprintf("forges.%s[%d]", kind, i)
		if h.URL == "" || h.TokenFile == "" {
			return fmt.Errorf("%s: url or token_file is missing: write {url: https://HOST/, token_file: FILE}", field)
		}
		if err := c.validURL(field+".url", h.URL); err != nil {
			return err
		}
	}
	return nil
}

// shortestWatch keeps us from being a burden to whoever is asked.
const shortestWatch = 10 * time.Second

func (c *Config) validTimes() error {
	if c.Webhook.MaxAge < 0 || c.Keep.Deliveries < 0 || c.Keep.Executions < 0 || c.Keep.Events < 0 {
		return errors.New("webhook.max_age, keep: a time is negative: write it as 24h, or 0s for any")
	}
	for i, s := range c.Webhook.Scoped {
		if s.Repository == "" || len(s.SecretFiles) == 0 {
			return fmt.Errorf("webhook.scoped[%d]: repository or secret_files is missing: write {repository: HOST/OWNER/NAME, secret_files: [FILE]}", i)
		}
	}
	for i, p := range c.Packages {
		if p.Watch != 0 && p.Watch < shortestWatch {
			return fmt.Errorf("packages[%d].watch: %s is too short: write at least %s", i, p.Watch, shortestWatch)
		}
		if p.Watch != 0 && strings.Contains(p.Name, "*") {
			return fmt.Errorf("packages[%d].watch: %s stands for many packages, and nobody says which: write an entry for each that is to be watched", i, p.Name)
		}
	}
	return nil
}

func (c *Config) validURL(field, value string) error {
	if value == "" {
		return nil
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%s: %q is no address: write https://host/", field, value)
	}
	return nil
}

func (c *Config) validBuilds() error {
	for i, prefix := range c.Builds.From {
		if prefix == "" {
			return fmt.Errorf("builds.from[%d]: is empty: write https://host/path/", i)
		}
		if err := c.validURL(fmt.Sprintf("builds.from[%d]", i), prefix); err != nil {
			return err
		}
	}
	return nil
}

// loopback tells a host that only this machine reaches.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Secrets reads the webhook secrets that are good for all repositories.
func (c *Config) Secrets() ([][]byte, error) { return ReadSecrets(c.Webhook.SecretFiles) }

// ReadSecrets reads one secret of each file.
func ReadSecrets(files []string) ([][]byte, error) {
	var secrets [][]byte
	for _, path := range files {
		secret, err := ReadSecret(path)
		if err != nil {
			return nil, err
		}
		secrets = append(secrets, secret)
	}
	return secrets, nil
}

// ReadSecret reads a file that holds one secret, without the white space around
// it; an empty one is an error.
func ReadSecret(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot read a secret: %w: make one with: openssl rand -hex 32 > %s", err, path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read a secret: %w: make it readable for the user that runs assay", err)
	}
	secret := bytes.TrimSpace(data)
	if len(secret) < 16 {
		return nil, fmt.Errorf("cannot use the secret in %s: it is shorter than 16 bytes: make one with: openssl rand -hex 32", path)
	}
	return secret, nil
}
