package checks

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// Plan makes the formula ready for one item. The variables are those known
// before the run: item, type, arch, uuid and so on; the item counts for the
// variable of its type as well. Every argument that input.args declares must be
// among them and not empty; of several item types one, the others become empty.
// With a matrix, the variables of one of its variants are among them.
//
// The steps resolve with the variables of the moment: what they are given wins
// over what Plan was given, so a caller may pass only what came since. A step's
// error begins with its position.
func (f *Formula) Plan(vars assay.Vars) (assay.Plan, error) {
	known := maps.Clone(vars)
	if known == nil {
		known = assay.Vars{}
	}
	known[assay.VarCheckname] = f.Checkname()
	f.nameItem(known)
	if err := f.checkArgs(known); err != nil {
		return assay.Plan{}, err
	}
	if err := f.checkMatrix(known); err != nil {
		return assay.Plan{}, err
	}
	plan := assay.Plan{Check: f.Checkname(), Timeout: f.Timeout, Skip: f.Skipped()}
	for i, a := range f.actions {
		plan.Steps = append(plan.Steps, assay.Step{
			Name: a.name, Directive: a.kind, Position: a.position, Export: a.export, Timeout: a.timeout, If: a.when,
			Resolve: a.resolver(known, i+1),
		})
	}
	return plan, nil
}

// nameItem sets the variables that are named after the item's type, the
// historic name included.
func (f *Formula) nameItem(vars assay.Vars) {
	typ, _ := vars[assay.VarType].(string)
	if !isGiven(vars, assay.VarItem) || typ == "" {
		return
	}
	item := vars[assay.VarItem]
	for _, name := range itemTypes() {
		if !isGiven(vars, name) && currentType(name) == currentType(typ) {
			vars[name] = item
		}
	}
}

// checkArgs wants the declared arguments to be given. Of several item types
// only one can be: the others are empty, so that an action may ask which it is.
// The directories are the runner's to give, once it has a machine.
func (f *Formula) checkArgs(vars assay.Vars) error {
	var types []string
	given := func(name string) bool { return isGiven(vars, name) }
	for _, arg := range f.Args {
		switch {
		case isItemType(arg):
			types = append(types, arg)
		case given(arg):
		case arg == assay.VarArch:
			return f.notGiven(arg, "-a ARCH")
		case arg == assay.VarItem || arg == assay.VarType:
			return f.notGiven(arg, "-i ITEM -t TYPE")
		}
	}
	if len(types) > 0 && !slices.ContainsFunc(types, given) {
		return f.notGiven(strings.Join(types, " or "), "-i ITEM -t "+currentType(types[0]))
	}
	for _, name := range types {
		if !given(name) {
			vars[name] = ""
		}
	}
	return nil
}

// isGiven tells that a variable has a value; an empty text is none.
func isGiven(vars assay.Vars, name string) bool {
	v, ok := vars[name]
	return ok && v != ""
}

func (f *Formula) notGiven(arg, how string) error {
	return fmt.Errorf("cannot run %s: its argument %s is not given: give it with %s", f.Checkname(), arg, how)
}

// resolver makes the Resolve of a step.
func (a action) resolver(planned assay.Vars, number int) func(assay.Vars) (assay.Action, error) {
	return func(now assay.Vars) (assay.Action, error) {
		vars := maps.Clone(planned)
		maps.Copy(vars, now)
		s := &scope{vars: vars, number: number, export: a.export, left: maxResolved}
		act, err := a.does.resolve(s)
		if err == nil {
			err = a.surround(s, &act)
		}
		if err != nil {
			return assay.Action{}, fmt.Errorf("%s: %s", a.position, oneLine(err.Error(), maxMessage))
		}
		return act, nil
	}
}

// directories returns the check's directory and the runner's own one.
func (s *scope) directories() (workdir, private string, err error) {
	workdir, _ = s.vars[assay.VarWorkdir].(string)
	private, _ = s.vars[assay.VarPrivate].(string)
	if !strings.HasPrefix(workdir, "/") || !strings.HasPrefix(private, "/") {
		return "", "", fmt.Errorf("cannot resolve this action without a machine: %s and %s must be set to absolute paths", assay.VarWorkdir, assay.VarPrivate)
	}
	return workdir, private, nil
}

// valueName is the file of the action's value, below VarPrivate.
func (s *scope) valueName() string { return fmt.Sprintf("value-%d.json", s.number) }

// giveValue makes v the value of an action that needs no command for it.
func (s *scope) giveValue(a *assay.Action, v any) error {
	_, private, err := s.directories()
	if err != nil {
		return err
	}
	b, err := encodeJSON(v)
	if err != nil {
		return fmt.Errorf("cannot write the value as JSON: %v", err)
	}
	a.Value = strings.TrimSuffix(private, "/") + "/" + s.valueName()
	a.Files = map[string][]byte{s.valueName(): b}
	return nil
}

// textTemplate reads an argument that is a text; numbers and booleans are taken
// as they are written.
func (p *parser) textTemplate(n *yaml.Node, what string) template {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		p.mistake(n, "read %s as %s: write a text", kindOf(n), what)
		return template{}
	}
	return p.template(n)
}

// lineTemplate reads an argument that is one line of text.
func (p *parser) lineTemplate(n *yaml.Node, what string) template {
	before := len(p.mistakes)
	t := p.textTemplate(n, what)
	if len(p.mistakes) == before && (strings.TrimSpace(n.Value) == "" || slices.Contains([]byte(n.Value), '\n')) {
		p.mistake(n, "use %s as %s: write one line of text", shown(n.Value), what)
	}
	return t
}
