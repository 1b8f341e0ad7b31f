package checks

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Bounds of what a formula may ask of a machine. An operator's own limits come
// on top, in the runner.
const (
	maxCPUs         = 64
	minMemory       = 64 << 20
	maxMemory       = 1 << 40
	minDisk         = 64 << 20
	maxDisk         = 16 << 40
	maxPackages     = 1000     // of one kind
	maxPackageNames = 48 << 10 // bytes of the names of one kind
	maxSetups       = 100      // set-up commands
	maxSetup        = 16 << 10 // bytes of one
)

// environmentKeys is the table of the keys below environment.
func environmentKeys() []key {
	return append([]key{
		{name: "image", read: readImage},
		{name: "cpus", read: readCPUs},
		{name: "memory", read: func(p *parser, n *yaml.Node) {
			p.formula.Environment.Memory = p.size(n, "memory", minMemory, maxMemory)
		}},
		{name: "disk", read: func(p *parser, n *yaml.Node) {
			p.formula.Environment.Disk = p.size(n, "disk", minDisk, maxDisk)
		}},
		{name: "rpm", read: func(p *parser, n *yaml.Node) { p.formula.Environment.RPM = p.packages(n, rpmPackages()) }},
		{name: "deb", read: func(p *parser, n *yaml.Node) { p.formula.Environment.Deb = p.packages(n, debPackages()) }},
		{name: "pip", read: func(p *parser, n *yaml.Node) { p.formula.Environment.Pip = p.packages(n, pipPackages()) }},
		{name: "setup", read: readSetup},
		{name: "network", read: readNetwork},
		{name: "machine", read: func(p *parser, n *yaml.Node) {
			if !isNull(n) {
				p.mapping(n, "machine", machineKeys(), nil)
			}
		}},
	}, machineKeys()...)
}

// machineKeys is the table of the keys by which formulas of Taskotron's say what
// machine they need: below environment, or below its machine (COMPAT.md 1.1,
// environment devising).
func machineKeys() []key {
	return []key{
		{name: "distro", read: func(p *parser, n *yaml.Node) { p.machineWord(n, &p.formula.Environment.Distro) }},
		{name: "release", read: func(p *parser, n *yaml.Node) { p.machineWord(n, &p.formula.Environment.Release) }},
		{name: "arch", read: func(p *parser, n *yaml.Node) { p.machineWord(n, &p.formula.Environment.Arch) }},
		{name: "flavor", read: func(p *parser, n *yaml.Node) {
			p.machineWord(n, new(string))
			p.warn(n, "flavor says nothing here, it chose between Taskotron's own images: write image: with an image's name")
		}},
	}
}

// machineWord reads a word of machineKeys as it is written, a number too.
func (p *parser) machineWord(n *yaml.Node, word *string) {
	switch {
	case n.Kind != yaml.ScalarNode || isNull(n) || !isSafeName(n.Value):
		p.mistake(n, "use %s here: write a name or a number, such as fedora, 42 or x86_64", valueOf(n))
	case *word != "":
		p.mistake(n, "say this both below environment and below machine: write it once")
	default:
		*word = n.Value
	}
}

// readEnvironment takes an empty environment too: real formulas hold nothing
// but comments there (COMPAT.md 2.1, traps).
func readEnvironment(p *parser, n *yaml.Node) {
	if !isNull(n) {
		p.mapping(n, "environment", environmentKeys(), nil)
	}
}

func readImage(p *parser, n *yaml.Node) {
	s, ok := p.text(n, "image")
	if ok && !isSafeName(s) {
		p.mistake(n, "use %s as image: write an image's name, such as debian-12", shown(s))
		return
	}
	p.formula.Environment.Image = s
}

func readCPUs(p *parser, n *yaml.Node) {
	v, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || v < 1 || v > maxCPUs {
		p.mistake(n, "use %s as cpus: write a whole number from 1 to %d", valueOf(n), maxCPUs)
		return
	}
	p.formula.Environment.CPUs = v
}

func readNetwork(p *parser, n *yaml.Node) {
	known := []string{"none", "full"}
	s, ok := p.text(n, "network")
	switch {
	case !ok:
	case !slices.Contains(known, s):
		p.mistake(n, "use %s as network: %s", shown(s), didYouMean(s, known))
	default:
		p.formula.Environment.Network = s
	}
}

// readSetup takes nothing, one command or a list of commands. A command is text
// for /bin/sh as it stands.
func readSetup(p *parser, n *yaml.Node) {
	for _, item := range p.items(n, "set-up commands", "setup: [make -C /usr/src/x]", maxSetups) {
		s, ok := p.text(item, "a set-up command")
		switch {
		case !ok:
		case strings.TrimSpace(s) == "":
			p.mistake(item, "run an empty set-up command: write one, or delete the line")
		case len(s) > maxSetup:
			p.mistake(item, "run a set-up command of more than %d KiB: write a shorter one", maxSetup>>10)
		default:
			p.formula.Environment.Setup = append(p.formula.Environment.Setup, s)
		}
	}
}

// packageKind is one package manager's idea of a package.
type packageKind struct {
	example string // "rpm: [make, gcc]"
	cure    string // what to write instead of a name that it does not know
	valid   func(string) bool
}

// rpmPackages takes whatever dnf does: files, what packages provide, patterns.
// What it would take for an option is none, and what only a shell would read
// neither.
func rpmPackages() packageKind {
	return packageKind{"rpm: [make, gcc]", "write a package's name or a file's path", func(s string) bool {
		return s[0] != '-' && !strings.ContainsAny(s, "`$&|;'\"\\!{}#")
	}}
}

// debPackages takes names (Debian Policy, 5.6.1) with what apt-get(8) knows
// behind them. A name that ends with "-" would be removed.
func debPackages() packageKind {
	form := regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*[a-z0-9+.](:[a-z0-9-]+)?(=[A-Za-z0-9.+:~-]+|/[A-Za-z0-9.-]+)?$`)
	return packageKind{"deb: [make, gcc]", "write a package's name such as make, or NAME=VERSION", form.MatchString}
}

// pipPackages takes names with extras and versions (PEP 508), but no addresses
// and no conditions: everything comes from the index.
func pipPackages() packageKind {
	const version = `\s*(===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9.*+!_-]+`
	form := regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(\[[A-Za-z0-9._, -]*\])?(` + version + `(\s*,` + version + `)*)?$`)
	return packageKind{"pip: [requests, pytest==8.3.4]", "write a name with or without a version, such as pytest==8.3.4", form.MatchString}
}

// packages takes nothing, one package or a list of packages.
func (p *parser) packages(n *yaml.Node, kind packageKind) []string {
	var names []string
	size := 0
	for _, item := range p.items(n, "packages", kind.example, maxPackages) {
		s := p.line(item, "a package")
		switch {
		case s == "":
		case !kind.valid(s):
			p.mistake(item, "use %s as a package: %s", shown(s), kind.cure)
		case size+len(s) > maxPackageNames:
			p.mistake(item, "ask for packages with names of more than %d KiB together: write fewer", maxPackageNames>>10)
			return names
		default:
			names, size = append(names, s), size+len(s)
		}
	}
	return names
}

// items are the values of a key that takes nothing, one value or a list.
func (p *parser) items(n *yaml.Node, what, example string, most int) []*yaml.Node {
	switch {
	case isNull(n):
	case n.Kind == yaml.ScalarNode:
		return []*yaml.Node{n}
	case n.Kind != yaml.SequenceNode:
		p.mistake(n, "read %s as %s: write a list: %s", kindOf(n), what, example)
	case len(n.Content) > most:
		p.mistake(n, "ask for more than %d %s: write fewer", most, what)
	default:
		return n.Content
	}
	return nil
}

// size reads a number of bytes with a unit.
func (p *parser) size(n *yaml.Node, what string, least, most int64) int64 {
	v, ok := parseSize(n.Value)
	switch {
	case n.Kind != yaml.ScalarNode || !ok:
		p.mistake(n, "read %s as a size for %s: write a number with a unit, such as 512MiB or 2GiB", valueOf(n), what)
	case v < least || v > most:
		p.mistake(n, "use %s for %s: write a size from %dMiB to %dGiB", shown(n.Value), what, least>>20, most>>30)
	default:
		return v
	}
	return 0
}

// parseSize reads NUMBER UNIT: KiB, MiB, GiB, TiB and K, M, G, T are powers of
// 1024; KB, MB, GB, TB powers of 1000. A number without a unit is none.
func parseSize(s string) (int64, bool) {
	cut := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if cut < 1 {
		return 0, false
	}
	number, err := strconv.ParseFloat(s[:cut], 64)
	unit := strings.TrimSpace(s[cut:])
	if err != nil || unit == "" {
		return 0, false
	}
	power := strings.IndexByte("KMGT", unit[0]) + 1
	base := 1024.0
	switch unit[1:] {
	case "", "iB":
	case "B":
		base = 1000
	default:
		power = 0
	}
	bytes := number * math.Pow(base, float64(power))
	return int64(min(bytes, 1<<60)), power > 0
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }
