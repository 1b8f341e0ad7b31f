package checks

import (
	"maps"
	"slices"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

const maxActions = 500 // in one formula

// directive is what one action does: the value of its directive key. To add one,
// write a type in a file of its own and enter it in directives.
type directive interface {
	// read takes the arguments and notes every mistake in them. Variables that
	// are known at this action are in p.known.
	read(p *parser, args *yaml.Node)
	// resolve substitutes the variables and says what a runner must do. It is
	// called after a read without mistakes, from any goroutine, any number of
	// times. Its errors begin with "cannot".
	resolve(s *scope) (assay.Action, error)
	// manual documents the directive, whatever was read.
	manual() manual
}

// directives is the table of the directives that formulas may use, each with
// what makes an empty one (COMPAT.md 1.1, Directives).
func directives() map[string]func() directive {
	return map[string]func() directive{
		"bodhi":         func() directive { return &bodhi{} },
		"bodhi_comment": func() directive { return &bodhiComment{} },
		"create_report": func() directive { return &createReport{} },
		"createrepo":    func() directive { return &createrepo{} },
		"distgit":       func() directive { return &distgit{} },
		"dummy":         func() directive { return &dummy{} },
		"exitcode":      func() directive { return &exitcode{} },
		"koji":          func() directive { return &koji{} },
		"mash":          func() directive { return &mash{} },
		"python":        func() directive { return &python{} },
		"resultsdb":     func() directive { return &resultsdb{} },
		"shell":         func() directive { return &shell{} },
		"xunit":         func() directive { return &xunit{} },
		"yumrepoinfo":   func() directive { return &yumrepoinfo{} },
	}
}

// olderDirective translates the spelling of a directive that was renamed.
func olderDirective(name string) string {
	if name == "bash" {
		return "shell"
	}
	return name
}

// action is one entry of actions.
type action struct {
	name     string
	kind     string // the directive's name
	export   string
	position string
	timeout  time.Duration // 0 for none of its own
	when     assay.Condition
	workdir  *template // nil for the check's own directory
	env      []setting
	does     directive
}

func readActions(p *parser, n *yaml.Node) {
	switch {
	case n.Kind != yaml.SequenceNode:
		p.mistake(n, "read %s as actions: write a list of actions, each begun with - name:", kindOf(n))
	case len(n.Content) == 0:
		p.mistake(n, "read an empty list of actions: write at least one action")
	case len(n.Content) > maxActions:
		p.mistake(n, "use more than %d actions: write fewer, or call a script", maxActions)
	default:
		p.noteExports(n)
		for _, item := range n.Content {
			p.readAction(item)
		}
	}
}

// noteExports collects every export in advance, to tell a variable that comes
// too late from one that never comes.
func (p *parser) noteExports(actions *yaml.Node) {
	p.later = make(map[string]bool)
	for _, item := range actions.Content {
		for i := 0; i+1 < len(item.Content); i += 2 {
			if item.Content[i].Value == "export" {
				p.later[item.Content[i+1].Value] = true
			}
		}
	}
}

func (p *parser) readAction(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		p.mistake(n, "read %s as an action: write - name: and below it a directive, such as shell:", kindOf(n))
		return
	}
	a := action{position: p.position(n)}
	p.own = nil
	var others []field
	p.mapping(n, "an action", actionKeys(&a), func(f field) { others = append(others, f) })
	p.readDirective(n, &a, others)
	if a.export != "" {
		p.known[a.export] = true
	}
	p.formula.actions = append(p.formula.actions, a)
}

// actionKeys is the table of an action's keys besides its directive.
func actionKeys(a *action) []key {
	return []key{
		{name: "name", required: true, read: func(p *parser, n *yaml.Node) { a.name = p.line(n, "an action's name") }},
		{name: "export", read: func(p *parser, n *yaml.Node) { a.export = p.readExport(n) }},
		{name: "timeout", read: func(p *parser, n *yaml.Node) { a.timeout = p.duration(n) }},
		{name: "if", read: func(p *parser, n *yaml.Node) { a.when = p.readIf(n) }},
		{name: "workdir", read: func(p *parser, n *yaml.Node) { a.workdir = p.readWorkdir(n) }},
		{name: "env", read: func(p *parser, n *yaml.Node) { a.env = p.readEnv(n) }},
	}
}

// readDirective finds the one directive among an action's keys.
func (p *parser) readDirective(n *yaml.Node, a *action, others []field) {
	known := slices.Sorted(maps.Keys(directives()))
	for _, f := range others {
		kind := olderDirective(f.key.Value)
		make, ok := directives()[kind]
		switch {
		case !ok && len(others) == 1:
			p.mistake(f.key, "use the directive %s: %s", shown(f.key.Value), didYouMean(f.key.Value, known))
			p.mistakes.cure(f.key, p.respellKey(n, f.key, append(known, names(actionKeys(a))...)))
		case !ok:
			all := append(known, names(actionKeys(a))...)
			p.mistake(f.key, "use the key %s in an action: %s", shown(f.key.Value), didYouMean(f.key.Value, all))
			p.mistakes.cure(f.key, p.respellKey(n, f.key, all))
		case a.does != nil:
			p.mistake(f.key, "use the directives %s and %s in one action: write two actions", a.kind, kind)
		default:
			if f.key.Value != kind {
				p.warn(f.key, "%s is the older spelling of %s: write %s", f.key.Value, kind, kind)
				p.warnings.cure(f.key, p.respell(f.key, kind))
			}
			a.kind, a.does = kind, make()
			a.does.read(p, f.value)
		}
	}
	if len(others) == 0 {
		p.mistake(n, "find a directive in this action: write %s", oneOf(known))
	}
}

// readExport reads the name of the variable that an action's value goes into.
func (p *parser) readExport(n *yaml.Node) string {
	name, ok := p.text(n, "export")
	switch {
	case !ok:
	case !isIdentifier(name) || len(name) > maxName:
		p.mistake(n, "export into %s: write a name of letters, digits and _, without $", shown(name))
	case builtins()[name] || slices.Contains(inputNames(), name):
		p.mistake(n, "export into %s, which has a meaning already: write another name", name)
	case slices.Contains(p.formula.matrixVars(), name):
		p.mistake(n, "export into %s, which is a variable of the matrix: write another name", name)
	case p.isSecret(name):
		p.mistake(n, "export into %s, which is a secret: write another name", name)
	default:
		return name
	}
	return ""
}

// isIdentifier matches [A-Za-z_][A-Za-z0-9_]*, a name as string.Template and
// Python know it.
func isIdentifier(s string) bool { return s != "" && identifierEnd(s) == len(s) }
