package checks

import (
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Bounds of what a formula asks for by name.
const (
	maxNeeds   = 32
	maxSecrets = 64
)

// readNeeds reads the names of checks whose artifacts the check is given.
func readNeeds(p *parser, n *yaml.Node) {
	for _, item := range p.oneOrMore(n, "needs", maxNeeds) {
		name, ok := p.text(item, "the name of a check")
		switch {
		case !ok:
		case !isCheckname(name):
			p.mistake(item, "use %s as the name of a check: write NAME or NAMESPACE.NAME as its formula has them", shown(name))
		case name == p.formula.Checkname():
			p.mistake(item, "let %s need itself: write the name of another check", name)
		case slices.Contains(p.formula.Needs, name):
			p.mistake(item, "need %s twice: write it once", name)
		default:
			at := cannot(p.file, "")
			at.Line, at.Col = item.Line, item.Column
			p.formula.Needs = append(p.formula.Needs, name)
			p.formula.needsAt = append(p.formula.needsAt, at)
		}
	}
}

// isCheckname tells what Checkname may return.
func isCheckname(s string) bool {
	if isSafeName(s) {
		return true
	}
	for i := range len(s) {
		if s[i] == '.' && isSafeName(s[:i]) && isSafeName(s[i+1:]) {
			return true
		}
	}
	return false
}

func readRetries(p *parser, n *yaml.Node) {
	v, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || v < 0 || v > MaxRetries {
		p.mistake(n, "use %s as retries: write a whole number from 0 to %d", valueOf(n), MaxRetries)
		return
	}
	p.formula.Retries = &v
}

// readSecrets reads the names of environment variables. They are no variables of
// the formula: a value that is never written into a command is never in a log.
func readSecrets(p *parser, n *yaml.Node) {
	for _, item := range p.oneOrMore(n, "secrets", maxSecrets) {
		name, ok := p.text(item, "the name of a secret")
		switch {
		case !ok:
		case !isIdentifier(name) || strings.ToUpper(name) != name || len(name) > maxName:
			p.mistake(item, "use %s as the name of a secret: write A-Z, 0-9 and _, the first no digit", shown(name))
		case strings.HasPrefix(name, "ASSAY_") || name == "TEST_ARTIFACTS":
			p.mistake(item, "use %s as the name of a secret, it has a meaning already: write another name", name)
		case p.known[name]:
			p.mistake(item, "use %s as the name of a secret, it is a variable of the matrix: write another name", name)
		case slices.Contains(p.formula.Secrets, name):
			p.mistake(item, "ask for the secret %s twice: write it once", name)
		default:
			p.formula.Secrets = append(p.formula.Secrets, name)
		}
	}
}

// refuseNeeds makes a mistake of every need that can never be met: of a check
// that no formula describes, and of one that needs this one in turn. What is
// missing is only told when every formula could be read, since one that could
// not may be the one.
func refuseNeeds(all []Loaded) {
	byName := make(map[string]*Formula)
	complete := true
	for _, l := range all {
		if l.Formula == nil {
			complete = false
			continue
		}
		byName[l.Formula.Checkname()] = l.Formula
	}
	known := make([]string, 0, len(byName))
	for name := range byName {
		known = append(known, name)
	}
	bad := make(map[string]Mistakes)
	for name, f := range byName {
		for i, need := range f.Needs {
			m := f.needsAt[i]
			switch {
			case byName[need] == nil && complete:
				m.Message = cannot("", "find the check %s in this repository: %s", need, nearestNeed(need, known)).Message
			case leadsTo(byName, need, name):
				m.Message = cannot("", "let %s need %s, which needs it in turn: delete one of them", name, need).Message
			default:
				continue
			}
			bad[f.Path] = append(bad[f.Path], m)
		}
	}
	for i := range all {
		if ms := bad[all[i].Path]; ms != nil && all[i].Formula != nil {
			all[i] = Loaded{Path: all[i].Path, Err: ms.err()}
		}
	}
}

func nearestNeed(need string, known []string) string {
	slices.Sort(known)
	if near := nearest(need, known); near != "" {
		return "write " + near
	}
	return "write the name of another check"
}

// leadsTo tells whether a check needs another, itself or through others.
func leadsTo(byName map[string]*Formula, from, to string) bool {
	seen := map[string]bool{}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		if queue[0] == to {
			return true
		}
		if f := byName[queue[0]]; f != nil && !seen[queue[0]] {
			seen[queue[0]] = true
			queue = append(queue, f.Needs...)
		}
	}
	return false
}

// isSecret tells the names that commands find in their environment only.
func (p *parser) isSecret(name string) bool { return slices.Contains(p.formula.Secrets, name) }
