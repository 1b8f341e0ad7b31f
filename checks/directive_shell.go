package checks

import (
	"fmt"
	"path"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// shell runs commands one after the other: text for /bin/sh, or a list that is
// run as it is. Those below ignorereturn may fail (COMPAT.md 1.1, shell). Its
// value is what the commands print.
type shell struct{ commands []shellCommand }

// shellCommand is one command: text, or argv if that is set.
type shellCommand struct {
	text   template
	argv   []expr
	ignore bool
}

func (c *shell) read(p *parser, args *yaml.Node) {
	if args.Kind == yaml.ScalarNode {
		c.readCommand(p, args, false)
		return
	}
	c.readList(p, args, false)
}

// readList reads a list of commands.
func (c *shell) readList(p *parser, n *yaml.Node, ignore bool) {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		p.mistake(n, "read %s as commands: write a list with a \"- \" before each command", emptyOr(n))
		return
	}
	for _, item := range n.Content {
		c.readCommand(p, item, ignore)
	}
}

func (c *shell) readCommand(p *parser, n *yaml.Node, ignore bool) {
	switch {
	case n.Kind == yaml.MappingNode && !ignore && looksLikeIgnore(n):
		p.mapping(n, "a command", []key{{name: "ignorereturn", required: true, read: func(p *parser, n *yaml.Node) {
			c.readIgnored(p, n)
		}}}, nil)
	case n.Kind == yaml.MappingNode:
		p.mistake(n, "read a mapping as a command: write a text, in quotes if it holds \": \", or a list of words")
		p.mistakes.cure(n, p.quoteMapping(n))
	case n.Kind == yaml.SequenceNode:
		c.readArgv(p, n, ignore)
	case strings.TrimSpace(n.Value) == "" || isNull(n):
		p.mistake(n, "run an empty command: write one, or delete the line")
	case ignore && n.ShortTag() == "!!int":
		p.mistake(n, "run %s as a command: ignorereturn lists commands that may fail, not exit codes", n.Value)
	default:
		c.commands = append(c.commands, shellCommand{text: p.shellTemplate(n), ignore: ignore})
	}
}

// looksLikeIgnore tells a mapping with ignorereturn, or something like it, from
// a command that YAML takes for a mapping.
func looksLikeIgnore(n *yaml.Node) bool {
	for i := 0; i < len(n.Content); i += 2 {
		if nearest(n.Content[i].Value, []string{"ignorereturn"}) != "" {
			return true
		}
	}
	return false
}

// readIgnored takes one command where the grammar has a list, as real files do.
func (c *shell) readIgnored(p *parser, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		c.readCommand(p, n, true)
		return
	}
	c.readList(p, n, true)
}

// readArgv reads a command that is a list of words. No shell reads them, but
// for the one behind -c of a shell.
func (c *shell) readArgv(p *parser, n *yaml.Node, ignore bool) {
	if len(n.Content) == 0 {
		p.mistake(n, "run an empty command: write the program and its arguments")
		return
	}
	argv := make([]expr, len(n.Content))
	for i, word := range n.Content {
		switch {
		case word.Kind != yaml.ScalarNode || isNull(word):
			p.mistake(word, "read %s as a word of a command: write a text", kindOf(word))
		case isShellScript(n.Content, i):
			argv[i] = p.shellTemplate(word)
		default:
			argv[i] = p.template(word)
		}
	}
	c.commands = append(c.commands, shellCommand{argv: argv, ignore: ignore})
}

// isShellScript tells whether word i of a command is a script for a shell:
// [sh, -c, SCRIPT].
func isShellScript(words []*yaml.Node, i int) bool {
	if i < 2 {
		return false
	}
	switch path.Base(words[0].Value) {
	case "sh", "bash", "dash", "ksh", "zsh":
	default:
		return false
	}
	option := words[i-1].Value
	return strings.HasPrefix(option, "-") && !strings.HasPrefix(option, "--") && strings.HasSuffix(option, "c")
}

func emptyOr(n *yaml.Node) string {
	if n.Kind == yaml.SequenceNode {
		return "an empty list"
	}
	return kindOf(n)
}

func (c *shell) resolve(s *scope) (assay.Action, error) {
	var a assay.Action
	for _, command := range c.commands {
		resolved, err := command.resolve(s)
		if err != nil {
			return assay.Action{}, err
		}
		a.Commands = append(a.Commands, resolved)
	}
	return a, nil
}

func (c shellCommand) resolve(s *scope) (assay.Command, error) {
	command := assay.Command{IgnoreExit: c.ignore}
	words := c.argv
	if words == nil {
		if argv, ok := c.text.wholeList(s); !ok {
			text, err := c.text.text(s)
			command.Shell = text
			return command, err
		} else if words = []expr{literal{argv}}; len(argv) == 0 {
			return command, fmt.Errorf("cannot run an empty list as a command")
		}
	}
	for _, word := range words {
		v, err := word.eval(s)
		if err != nil {
			return command, err
		}
		if command.Argv, err = appendWords(command.Argv, v); err != nil {
			return command, err
		}
	}
	if len(command.Argv) == 0 || command.Argv[0] == "" {
		return command, fmt.Errorf("cannot run a command without a program: its first word is empty")
	}
	return command, nil
}

// wholeList tells that a command is exactly one variable whose value is a list:
// it is run as that list.
func (t template) wholeList(s *scope) ([]any, bool) {
	if len(t.parts) != 1 || t.parts[0].path == nil {
		return nil, false
	}
	v, err := lookup(s.vars, t.parts[0].path)
	l, ok := v.([]any)
	return l, ok && err == nil
}

// appendWords adds a value to a command: a list word by word, anything else as
// one word.
func appendWords(argv []string, v any) ([]string, error) {
	values, ok := v.([]any)
	if !ok {
		values = []any{v}
	}
	for _, v := range values {
		word, err := stringify(v)
		if err != nil {
			return nil, fmt.Errorf("cannot write a word of a command: %v", err)
		}
		if strings.ContainsRune(word, 0) {
			return nil, fmt.Errorf("cannot use %s as a word of a command: it holds a zero byte", shown(word))
		}
		argv = append(argv, word)
	}
	return argv, nil
}

func (*shell) manual() manual {
	text := shapeText()
	command := shapeEither(text, shapeListOf(text))
	ignored := shape{
		"type": "object", "required": []string{"ignorereturn"}, "additionalProperties": false,
		"properties": map[string]any{"ignorereturn": shapeEither(text, shapeListOf(command))},
	}
	return manual{
		short: "run commands",
		text: "Each command is a text for /bin/sh, or a list of words that is run as it is. The first\n" +
			"that exits with another code than 0 fails the step. Those below ignorereturn may.",
		bare:    shapeEither(text, shapeListOf(shapeEither(text, shapeListOf(text), ignored))),
		value:   "what the commands print on standard output",
		example: "name: build and try\nshell:\n  - make -C ${sources}\n  - [./hello, --version]\n  - ignorereturn: [rm out.log]\n",
	}
}
