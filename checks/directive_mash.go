package checks

import (
	_ "embed"
	"fmt"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// mashScript makes a multilib repository in the machine.
//
//go:embed mash.sh
var mashScript string

// mash makes a repository as a distribution has it for one architecture
// (COMPAT.md 1.1, mash).
type mash struct {
	rpms, out *template
	arch      *template
	deltas    expr
}

func (c *mash) read(p *parser, args *yaml.Node) {
	p.mapping(args, "mash", []key{
		{name: "rpmdir", required: true, read: func(p *parser, n *yaml.Node) { p.readLine(n, "rpmdir", &c.rpms) }},
		{name: "outdir", read: func(p *parser, n *yaml.Node) { p.readLine(n, "outdir", &c.out) }},
		{name: "dodelta", read: func(p *parser, n *yaml.Node) { c.deltas = p.readFlag(n, "dodelta") }},
		{name: "arch", required: true, read: func(p *parser, n *yaml.Node) { p.readLine(n, "arch", &c.arch) }},
	}, nil)
}

func (c *mash) resolve(s *scope) (assay.Action, error) {
	rpms, err := lineText(s, c.rpms, "rpmdir")
	if err == nil {
		rpms, err = ownDir(s, rpms, "rpmdir")
	}
	if err != nil {
		return assay.Action{}, err
	}
	out := rpms
	if c.out != nil {
		if out, err = lineText(s, c.out, "outdir"); err == nil {
			out, err = ownDir(s, out, "outdir")
		}
		if err != nil {
			return assay.Action{}, err
		}
	}
	arch, err := lineText(s, c.arch, "arch")
	switch {
	case err != nil:
		return assay.Action{}, err
	case !isArch(arch) || arch == "all" || arch == "src" || arch == "noarch":
		return assay.Action{}, fmt.Errorf("cannot use %s as arch: write the architecture of a machine, such as x86_64", shown(arch))
	}
	deltas, err := flagOf(s, c.deltas, "dodelta")
	flag := "0"
	if deltas {
		flag = "1"
	}
	return assay.Action{Commands: []assay.Command{ownScript(mashScript, "mash", rpms, out, arch, flag)}}, err
}

func (*mash) manual() manual {
	return manual{
		short: "make a multilib repository of packages",
		text: "Packages that a repository of the architecture does not have are left out: those for other\n" +
			"machines, source packages and, of the 32-bit packages that the architecture can run, all\n" +
			"but libraries and -devel. createrepo_c makes the repository of the rest. The machine must\n" +
			"have createrepo_c and rpm.",
		args: []argument{
			{name: "rpmdir", required: true, shape: shapeText(), text: "The directory with the packages, below ${workdir} or ${artifactsdir}."},
			{name: "outdir", shape: shapeText(), otherwise: "rpmdir", text: "Where the repository goes; without it, what is left out is removed from rpmdir."},
			{name: "dodelta", shape: shapeFlag(), otherwise: "false", text: "Also make delta packages."},
			{name: "arch", required: true, shape: shapeText(), text: "The architecture of a machine, such as x86_64."},
		},
		value:   "what was left out, and what createrepo_c prints on standard output",
		example: "name: make a multilib repository\nmash:\n  rpmdir: ${workdir}/rpms\n  outdir: ${workdir}/repo\n  arch: x86_64\n",
	}
}
