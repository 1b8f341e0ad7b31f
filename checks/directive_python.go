package checks

import (
	_ "embed"
	"fmt"
	"path"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// shim is the program that calls a function of a check in the machine. It needs
// python3 there and nothing else.
//
//go:embed shim.py
var shim string

const shimName = "call.py" // below VarPrivate

// python calls a function: file is the Python file beside the formula, callable
// its function, everything else its keyword arguments. What the function
// returns is the step's value (COMPAT.md 1.1, python).
type python struct {
	file     template
	fileAt   Mistake // where file stands, for a file that is not there
	callable string
	kwargs   dict
}

func (c *python) read(p *parser, args *yaml.Node) {
	p.mapping(args, "python", []key{
		{name: "file", required: true, read: c.readFile},
		{name: "callable", required: true, read: c.readCallable},
	}, func(f field) {
		c.kwargs = append(c.kwargs, entry{p.template(f.key), p.value(f.value)})
	})
}

func (c *python) readFile(p *parser, n *yaml.Node) {
	before := len(p.mistakes)
	c.file = p.lineTemplate(n, "file")
	c.fileAt = cannot(p.file, "")
	c.fileAt.Line, c.fileAt.Col = n.Line, n.Column
	if len(p.mistakes) > before || c.file.hasReference() {
		return // with a variable it is looked at when it is resolved
	}
	if _, err := cleanFile(c.file.parts[0].text, ""); err != nil {
		p.mistake(n, "%s", strings.TrimPrefix(err.Error(), "cannot "))
	}
}

func (c *python) readCallable(p *parser, n *yaml.Node) {
	s, ok := p.text(n, "callable")
	if ok && !isIdentifier(s) {
		p.mistake(n, "call %s: write the name of a function in the file, without module, parentheses or arguments", shown(s))
	}
	c.callable = s
}

// cleanFile makes a path relative to the check's directory and refuses one that
// leads out of it. A path that begins with workdir is taken as relative to it.
func cleanFile(name, workdir string) (string, error) {
	if workdir != "" {
		name = strings.TrimPrefix(name, workdir+"/")
	}
	clean := path.Clean(name)
	if name == "" || clean == "." || path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsAny(name, "\\\x00\n") {
		return "", fmt.Errorf("cannot use the file %s: write a path relative to the formula, in its directory", shown(name))
	}
	return clean, nil
}

// localFile is the file that must be in the repository, "" if only a run can
// tell.
func (c *python) localFile() (string, Mistake) {
	if c.file.hasReference() || len(c.file.parts) == 0 {
		return "", c.fileAt
	}
	clean, err := cleanFile(c.file.parts[0].text, "")
	if err != nil {
		return "", c.fileAt
	}
	return clean, c.fileAt
}

func (c *python) resolve(s *scope) (assay.Action, error) {
	workdir, private, err := s.directories()
	if err != nil {
		return assay.Action{}, err
	}
	file, err := c.file.text(s)
	if err == nil {
		file, err = cleanFile(file, workdir)
	}
	if err != nil {
		return assay.Action{}, err
	}
	kwargs, err := c.kwargs.eval(s)
	if err != nil {
		return assay.Action{}, err
	}
	stdin, err := encodeJSON(kwargs)
	if err != nil {
		return assay.Action{}, fmt.Errorf("cannot pass the arguments on as JSON: %v", err)
	}
	value := path.Join(private, s.valueName())
	return assay.Action{
		Files: map[string][]byte{shimName: []byte(shim)},
		Commands: []assay.Command{{
			Argv:  []string{"python3", path.Join(private, shimName), path.Join(workdir, file), c.callable, value},
			Stdin: stdin,
		}},
		Value: value,
	}, nil
}

func (*python) manual() manual {
	return manual{
		short: "call a Python function of the check",
		text: "The file is imported in the machine, which needs python3, and the function called with\n" +
			"every argument but file and callable as a keyword argument. An exception fails the step.",
		args: []argument{
			{name: "file", required: true, shape: shapeText(), text: "The Python file, relative to the formula."},
			{name: "callable", required: true, shape: shapeText(), text: "The function's name."},
			{name: "…", shape: shapeAny(), text: "A keyword argument of the function."},
		},
		value:   "what the function returns",
		example: "name: compare the versions\npython:\n  file: compare.py\n  callable: run\n  item: ${item}\nexport: report\n",
	}
}
