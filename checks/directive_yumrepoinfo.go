package checks

import (
	"fmt"
	"slices"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// yumrepoinfo tells the repositories of a tag (COMPAT.md 1.1, yumrepoinfo).
type yumrepoinfo struct {
	tag  *template
	arch expr
}

func (c *yumrepoinfo) read(p *parser, args *yaml.Node) {
	p.mapping(args, "yumrepoinfo", []key{
		{name: "koji_tag", required: true, read: func(p *parser, n *yaml.Node) { p.readLine(n, "koji_tag", &c.tag) }},
		{name: "arch", required: true, read: func(p *parser, n *yaml.Node) { c.arch = p.readWords(n, "arch") }},
	}, nil)
}

func (c *yumrepoinfo) resolve(s *scope) (assay.Action, error) {
	tag, err := lineText(s, c.tag, "koji_tag")
	if err != nil {
		return assay.Action{}, err
	}
	arches, _, err := archesOf(s, c.arch, "arch")
	if err != nil {
		return assay.Action{}, err
	}
	arches = slices.DeleteFunc(arches, func(a string) bool { return a == "all" || a == "noarch" })
	if len(arches) == 0 {
		return assay.Action{}, fmt.Errorf("cannot tell the repositories of no architecture: write real ones, such as x86_64; all, src and noarch do not count")
	}
	workdir, _, err := s.directories()
	return assay.Action{Fetch: &assay.Fetch{Dir: workdir, YumRepos: &assay.YumReposFetch{Tag: tag, Arches: arches}}}, err
}

func (*yumrepoinfo) manual() manual {
	return manual{
		short: "tell the repositories of a Koji tag",
		text: "The value names the tag's repository and all that it is added to, its parents, each with\n" +
			"an address for every architecture. They come from the operator's yumrepoinfo.conf; see\n" +
			"docs/downloads.md. Nothing is downloaded.",
		args: []argument{
			{name: "koji_tag", required: true, shape: shapeText(), text: "The tag, such as f42-updates; rawhide will do, and -pending at its end is dropped."},
			{name: "arch", required: true, shape: shapeWordsOrText(), text: "An architecture or a list of them; all, src and noarch do not count."},
		},
		value:   "a mapping: by repository, then by architecture, the address",
		example: "name: find the repositories\nyumrepoinfo:\n  koji_tag: ${koji_tag}\n  arch: x86_64\nexport: repos\n",
	}
}
