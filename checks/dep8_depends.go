package checks

import (
	"regexp"
	"strings"
)

// maxDepends bounds the dependencies of one test, with all that @ stands for.
const maxDepends = 1000

// maxDependsSize bounds them in bytes: they become one command line.
const maxDependsSize = 48 << 10

// dependency is one group of alternatives, as apt-get satisfy takes it.
type dependency struct {
	text string
	own  bool // every alternative is a package of the tree's own
}

// sourcePackage is what debian/control says of the tree.
type sourcePackage struct {
	missing    string // why nothing is known, "" if something is
	maintainer string
	binaries   []binaryPackage
	builds     []string // build dependencies, groups
	recommends []string // groups
}

// binaryPackage is a package that the source makes.
type binaryPackage struct {
	name string
	arch string // "[linux-any]", "" where it is made on every architecture
}

func (s sourcePackage) has(name string) bool {
	for _, b := range s.binaries {
		if b.name == name {
			return true
		}
	}
	return false
}

// readSource reads debian/control. Mistakes in it are not the tests' to tell:
// what is not understood there is left out, as it is when the package is built.
func readSource(data string) sourcePackage {
	var out sourcePackage
	for _, s := range readStanzas(&parser{file: "debian/control"}, data, false) {
		if s.text("source") != "" {
			out.maintainer = s.text("maintainer")
			for _, field := range []string{"build-depends", "build-depends-indep", "build-depends-arch"} {
				out.builds = append(out.builds, knownGroups(s, field)...)
			}
			continue
		}
		name := s.text("package")
		if !packageName.MatchString(name) || !isDeb(s) {
			continue
		}
		b := binaryPackage{name: name}
		if arch := s.text("architecture"); arch != "all" && arch != "any" && architectures.MatchString(arch) {
			b.arch = " [" + arch + "]"
		}
		out.binaries = append(out.binaries, b)
		out.recommends = append(out.recommends, knownGroups(s, "recommends")...)
	}
	out.builds = append(out.builds, "build-essential")
	return out
}

// isDeb tells packages from what only the installer takes.
func isDeb(s stanza) bool {
	for _, field := range []string{"package-type", "xc-package-type"} {
		if kind := s.text(field); kind != "" && kind != "deb" {
			return false
		}
	}
	return true
}

// knownGroups are the dependencies of a field without those that are known only
// when the package is built, such as ${shlibs:Depends}.
func knownGroups(s stanza, field string) []string {
	var groups []string
	f, _ := s.field(field)
	for _, g := range f.value.split(",") {
		var known []string
		for _, a := range g.split("|") {
			text := variableVersion.ReplaceAllString(a.text, "")
			if d, ok := parseAlternative(text); ok {
				known = append(known, d.text)
			}
		}
		if len(known) > 0 {
			groups = append(groups, strings.Join(known, " | "))
		}
	}
	return groups
}

// Forms of what stands in a dependency (Debian Policy, 5.6.1 and 7.1).
var (
	packageName     = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*$`)
	architectures   = regexp.MustCompile(`^!?[a-z0-9-]+( +!?[a-z0-9-]+)*$`)
	variableVersion = regexp.MustCompile(`\([^()]*\$\{[^()]*\)`)
	alternativeForm = regexp.MustCompile(`^([a-z0-9][a-z0-9+.-]*|@)(:[a-z0-9-]+)?` +
		`\s*(?:\(\s*(<<|<=|=|>=|>>)\s*([0-9][A-Za-z0-9.+:~-]*)\s*\))?` +
		`\s*(?:\[\s*(!?[a-z0-9-]+(?:\s+!?[a-z0-9-]+)*)\s*\])?` +
		`\s*((?:<\s*!?[a-z0-9.-]+(?:\s+!?[a-z0-9.-]+)*\s*>\s*)*)$`)
)

// alternative is one package of a group.
type alternative struct {
	name string // "@" for every package of the tree's own
	rest string // " (>= 1) [amd64]"
	text string // both
}

// parseAlternative reads one alternative. Tests run on the machine's own
// architecture: a package that must be of it needs no mark.
func parseAlternative(text string) (alternative, bool) {
	m := alternativeForm.FindStringSubmatch(text)
	if m == nil {
		return alternative{}, false
	}
	a := alternative{name: m[1]}
	if m[2] != ":native" {
		a.rest = m[2]
	}
	if m[3] != "" {
		a.rest += " (" + m[3] + " " + m[4] + ")"
	}
	if m[5] != "" {
		a.rest += " [" + strings.Join(strings.Fields(m[5]), " ") + "]"
	}
	if m[6] != "" {
		a.rest += " " + strings.Join(strings.Fields(m[6]), " ")
	}
	a.text = a.name + a.rest
	return a, true
}

// dependsReader makes the dependencies of a stanza.
type dependsReader struct {
	p      *parser
	source sourcePackage
	out    []dependency
	size   int
	over   bool
}

func (r *dependsReader) add(d dependency) {
	r.size += len(d.text) + 2
	if len(r.out) < maxDepends && r.size <= maxDependsSize {
		r.out = append(r.out, d)
		return
	}
	r.over = true
}

// readDepends reads a Depends field.
func readDepends(p *parser, source sourcePackage, value placed) []dependency {
	r := &dependsReader{p: p, source: source}
	for _, group := range value.split(",") {
		r.group(group)
		if p.full() || r.over {
			break
		}
	}
	if r.over {
		line, col := value.at(0)
		p.mistakeAt(line, col, "ask for more than %d dependencies, or %d KiB of them: write fewer", maxDepends, maxDependsSize>>10)
	}
	return r.out
}

func (r *dependsReader) group(group placed) {
	if strings.Contains(group.text, "@") && r.source.missing != "" {
		line, col := group.at(0)
		r.p.mistakeAt(line, col, "tell what %s stands for: %s", shown(group.text), r.source.missing)
		return
	}
	switch group.text {
	case "@":
		for _, b := range r.source.binaries {
			r.add(dependency{b.name + b.arch, true})
		}
	case "@builddeps@":
		r.addAll(r.source.builds)
	case "@recommends@":
		r.addAll(r.source.recommends)
	default:
		r.alternatives(group)
	}
}

func (r *dependsReader) addAll(groups []string) {
	for _, g := range groups {
		r.add(dependency{text: g})
	}
}

// alternatives reads an ordinary group. One with @ in it is repeated for every
// package of the tree's own.
func (r *dependsReader) alternatives(group placed) {
	var list []alternative
	repeat, own := false, true
	for _, part := range group.split("|") {
		a, ok := parseAlternative(part.text)
		if !ok {
			line, col := part.at(0)
			r.p.mistakeAt(line, col, "read %s as a dependency: write PACKAGE, PACKAGE (>= VERSION), A | B, or one of @, @builddeps@, @recommends@", shown(part.text))
			return
		}
		list = append(list, a)
		repeat = repeat || a.name == "@"
		own = own && (a.name == "@" || r.source.has(a.name))
	}
	if len(list) == 0 {
		return
	}
	if !repeat {
		r.add(dependency{joinAlternatives(list, ""), own})
		return
	}
	for _, b := range r.source.binaries {
		r.add(dependency{joinAlternatives(list, b.name), own})
	}
}

func joinAlternatives(list []alternative, own string) string {
	texts := make([]string, len(list))
	for i, a := range list {
		texts[i] = a.text
		if a.name == "@" {
			texts[i] = own + a.rest
		}
	}
	return strings.Join(texts, " | ")
}
