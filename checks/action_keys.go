package checks

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// Bounds of an action's environment.
const (
	maxEnv      = 100       // variables
	maxEnvValue = 100 << 10 // bytes of one; Linux takes no more than 128 KiB
)

// conditions lists the words behind if.
func conditions() []string { return []string{string(assay.IfAlways), string(assay.IfFailed)} }

// readIf reads when an action runs.
func (p *parser) readIf(n *yaml.Node) assay.Condition {
	word, ok := p.text(n, "if")
	switch {
	case !ok:
	case !slices.Contains(conditions(), word):
		p.mistake(n, "use %s as if: %s", shown(word), didYouMean(word, conditions()))
	default:
		return assay.Condition(word)
	}
	return assay.IfPassed
}

// readWorkdir reads where the action's commands start.
func (p *parser) readWorkdir(n *yaml.Node) *template {
	before := len(p.mistakes)
	t := p.lineTemplate(n, "workdir")
	if len(p.mistakes) > before {
		return nil
	}
	if !t.hasReference() {
		if _, err := t.directory(t.parts[0].text, "/workdir"); err != nil {
			p.mistake(n, "%s", strings.TrimPrefix(err.Error(), "cannot "))
			return nil
		}
	}
	return &t
}

// directory makes an absolute path of a workdir. A relative one stays in the
// check's directory. An absolute one is anywhere in the machine, but only if the
// formula says so: not if it is the item that is a path.
func (t template) directory(text, workdir string) (string, error) {
	switch {
	case text == "" || strings.ContainsAny(text, "\x00\n\r"):
		return "", fmt.Errorf("cannot start commands in %s: write a directory's path", shown(text))
	case len(text) > maxPathname:
		return "", fmt.Errorf("cannot start commands in a directory whose path is longer than %d bytes: write a shorter one", maxPathname)
	case !path.IsAbs(text):
		text = path.Clean(text)
		if text == ".." || strings.HasPrefix(text, "../") {
			return "", fmt.Errorf("cannot start commands in %s: write a directory below the check's own, or an absolute path", shown(text))
		}
		return path.Join(workdir, text), nil
	case t.parts[0].path != nil && isEventWord(t.parts[0].path[0]):
		return "", fmt.Errorf("cannot start commands in %s, which is what %s says: write the directory itself", shown(text), reference(t.parts[0].path))
	}
	return path.Clean(text), nil
}

// maxPathname bounds the path of a directory, as Linux does.
const maxPathname = 4095

// isEventWord tells the variables whose values come from an event, which are not
// the formula's word.
func isEventWord(name string) bool {
	switch name {
	case assay.VarWorkdir, assay.VarArtifacts, assay.VarSources, assay.VarBuilds, assay.VarPrivate:
		return false
	}
	return builtins()[name] || slices.Contains(inputNames(), name)
}

// setting is one variable of an action's environment.
type setting struct {
	name  string
	value template
}

// readEnv reads what is added to the environment of the action's commands.
func (p *parser) readEnv(n *yaml.Node) []setting {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		p.mistake(n, "read %s as env: write NAME: VALUE lines", kindOf(n))
		return nil
	}
	var env []setting
	p.own = make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case !isIdentifier(key.Value) || len(key.Value) > maxName:
			p.mistake(key, "set the environment variable %s: write a name of letters, digits and _, the first no digit", shown(key.Value))
		case p.isSecret(key.Value):
			p.mistake(key, "set the environment variable %s, which holds a secret: write another name", key.Value)
		case len(env) == maxEnv:
			p.mistake(key, "set more than %d environment variables: write fewer", maxEnv)
			return env
		default:
			env = append(env, setting{key.Value, p.textTemplate(value, "an environment variable")})
			p.own[key.Value] = true
		}
	}
	return env
}

// surround sets what is the same for every directive.
func (a action) surround(s *scope, act *assay.Action) error {
	if a.workdir != nil {
		workdir, _, err := s.directories()
		if err != nil {
			return err
		}
		text, err := a.workdir.text(s)
		if err != nil {
			return err
		}
		if act.Dir, err = a.workdir.directory(text, workdir); err != nil {
			return err
		}
	}
	for _, e := range a.env {
		value, err := e.value.text(s)
		if err != nil {
			return err
		}
		if len(value) > maxEnvValue {
			return fmt.Errorf("cannot set the environment variable %s to more than %d KiB: write it into a file", e.name, maxEnvValue>>10)
		}
		act.Env = append(act.Env, e.name+"="+value)
	}
	return nil
}
