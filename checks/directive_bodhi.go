package checks

import (
	"fmt"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// bodhi downloads the builds of an update (COMPAT.md 1.1, bodhi).
type bodhi struct {
	action, update, dir *template
	arch, src           expr
}

func (c *bodhi) read(p *parser, args *yaml.Node) {
	before := len(p.mistakes)
	p.mapping(args, "bodhi", []key{
		{name: "action", required: true, read: func(p *parser, n *yaml.Node) { c.action = p.actionWord(n, []string{kojiDownload}) }},
		{name: "update_id", required: true, read: func(p *parser, n *yaml.Node) { p.readLine(n, "update_id", &c.update) }},
		{name: "arch", required: true, read: func(p *parser, n *yaml.Node) { c.arch = p.readWords(n, "arch") }},
		{name: "src", read: func(p *parser, n *yaml.Node) { c.src = p.readFlag(n, "src") }},
		{name: "target_dir", read: func(p *parser, n *yaml.Node) { p.readLine(n, "target_dir", &c.dir) }},
	}, nil)
	arches, isList := c.arch.(list)
	source, known := c.src.(literal)
	if len(p.mistakes) == before && isList && len(arches) == 0 && (c.src == nil || known && source.value == false) {
		p.mistake(args, "download nothing: write an architecture in arch, or src: true")
	}
}

func (c *bodhi) resolve(s *scope) (assay.Action, error) {
	action, err := lineText(s, c.action, "action")
	if err == nil && action != kojiDownload {
		err = fmt.Errorf("cannot use %s as action: write %s", shown(action), kojiDownload)
	}
	if err != nil {
		return assay.Action{}, err
	}
	f := &assay.BodhiFetch{}
	if f.Update, err = lineText(s, c.update, "update_id"); err != nil {
		return assay.Action{}, err
	}
	if f.Arches, f.Source, err = archesOf(s, c.arch, "arch"); err != nil {
		return assay.Action{}, err
	}
	source, err := flagOf(s, c.src, "src")
	if err != nil {
		return assay.Action{}, err
	}
	f.Source = f.Source || source
	if len(f.Arches) == 0 && !f.Source {
		return assay.Action{}, fmt.Errorf("cannot download nothing: write an architecture in arch, or src: true")
	}
	dir, err := targetDir(s, c.dir)
	return assay.Action{Fetch: &assay.Fetch{Dir: dir, Bodhi: f}}, err
}

func (*bodhi) manual() manual {
	return manual{
		short: "download the builds of a Bodhi update",
		text: "The host asks Bodhi which builds the update has, and downloads their packages from Koji;\n" +
			"debuginfo packages are left out. See docs/downloads.md.",
		args: []argument{
			{name: "action", required: true, shape: shapeEither(shapeWords(kojiDownload), shapeText()), text: "What is done: download."},
			{name: "update_id", required: true, shape: shapeText(), text: "The update, such as FEDORA-2017-04459ef8cf."},
			{name: "arch", required: true, shape: shapeWordsOrText(), text: "An architecture or a list of them, as koji takes them; [] needs src: true."},
			{name: "src", shape: shapeFlag(), otherwise: "false", text: "Also download source packages."},
			targetDirArgument(),
		},
		value:   "a mapping: downloaded_rpms is a list of paths",
		example: "name: download the update\nbodhi:\n  action: download\n  update_id: ${bodhi_update}\n  arch: all\n  src: true\nexport: downloaded\n",
	}
}
