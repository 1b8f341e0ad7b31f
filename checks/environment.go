package checks

import (
	"math"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Bounds of what a formula may ask of a machine. An operator's own limits come
// on top, in the runner.
const (
	maxCPUs   = 64
	minMemory = 64 << 20
	maxMemory = 1 << 40
	minDisk   = 64 << 20
	maxDisk   = 16 << 40
	maxRPMs   = 1000
)

// environmentKeys is the table of the keys below environment.
func environmentKeys() []key {
	return []key{
		{name: "image", read: readImage},
		{name: "cpus", read: readCPUs},
		{name: "memory", read: func(p *parser, n *yaml.Node) {
			p.formula.Environment.Memory = p.size(n, "memory", minMemory, maxMemory)
		}},
		{name: "disk", read: func(p *parser, n *yaml.Node) {
			p.formula.Environment.Disk = p.size(n, "disk", minDisk, maxDisk)
		}},
		{name: "rpm", read: readRPM},
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

// readRPM takes nothing, one package or a list of packages.
func readRPM(p *parser, n *yaml.Node) {
	switch {
	case isNull(n):
	case n.Kind == yaml.ScalarNode:
		p.addRPM(n)
	case n.Kind != yaml.SequenceNode:
		p.mistake(n, "read %s as packages: write a list: rpm: [make, gcc]", kindOf(n))
	case len(n.Content) > maxRPMs:
		p.mistake(n, "ask for more than %d packages: write fewer", maxRPMs)
	default:
		for _, item := range n.Content {
			p.addRPM(item)
		}
	}
}

// addRPM takes one package. What dnf would take for an option is none.
func (p *parser) addRPM(n *yaml.Node) {
	s := p.line(n, "a package")
	switch {
	case strings.HasPrefix(s, "-"):
		p.mistake(n, "use %s as a package: write a package's name or a file's path", shown(s))
	case s != "":
		p.formula.Environment.RPM = append(p.formula.Environment.RPM, s)
	}
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
