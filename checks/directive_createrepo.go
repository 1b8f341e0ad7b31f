package checks

import (
	_ "embed"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// createrepoScript runs createrepo_c in the machine.
//
//go:embed createrepo.sh
var createrepoScript string

// createrepo makes a directory of packages a repository (COMPAT.md 1.1,
// createrepo).
type createrepo struct{ dir *template }

func (c *createrepo) read(p *parser, args *yaml.Node) {
	p.mapping(args, "createrepo", []key{
		{name: "repodir", required: true, read: func(p *parser, n *yaml.Node) { p.readLine(n, "repodir", &c.dir) }},
	}, nil)
}

func (c *createrepo) resolve(s *scope) (assay.Action, error) {
	dir, err := lineText(s, c.dir, "repodir")
	if err != nil {
		return assay.Action{}, err
	}
	dir, err = ownDir(s, dir, "repodir")
	return assay.Action{Commands: []assay.Command{ownScript(createrepoScript, "createrepo", dir)}}, err
}

// ownScript runs a text of ours with arguments, which no shell reads.
func ownScript(text, name string, args ...string) assay.Command {
	return assay.Command{Argv: append([]string{"/bin/sh", "-c", text, name}, args...)}
}

func (*createrepo) manual() manual {
	return manual{
		short: "make a repository of packages",
		text: "createrepo_c runs in the machine, which must have it. Anything that it says on standard\n" +
			"error fails the step.",
		args: []argument{
			{name: "repodir", required: true, shape: shapeText(), text: "The directory with the packages, below ${workdir} or ${artifactsdir}."},
		},
		value:   "what createrepo_c prints on standard output",
		example: "name: make a repository\ncreaterepo:\n  repodir: ${workdir}/rpms\n",
	}
}
