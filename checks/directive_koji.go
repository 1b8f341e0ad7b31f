package checks

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// koji downloads what builds made (COMPAT.md 1.1, koji).
type koji struct {
	action, build, tag, dir *template
	arch, exclude           expr
	src, debuginfo, logs    expr
}

// The actions of koji.
const (
	kojiDownload = "download"
	kojiTag      = "download_tag"
	kojiLatest   = "download_latest_stable"
)

func kojiActions() []string { return []string{kojiDownload, kojiTag, kojiLatest} }

func (c *koji) read(p *parser, args *yaml.Node) {
	line := func(what string, into **template) func(*parser, *yaml.Node) {
		return func(p *parser, n *yaml.Node) { p.readLine(n, what, into) }
	}
	flag := func(what string, into *expr) func(*parser, *yaml.Node) {
		return func(p *parser, n *yaml.Node) { *into = p.readFlag(n, what) }
	}
	keys := []key{
		{name: "action", required: true, read: func(p *parser, n *yaml.Node) { c.action = p.actionWord(n, kojiActions()) }},
		{name: "arch", required: true, read: func(p *parser, n *yaml.Node) { c.arch = p.readWords(n, "arch") }},
		{name: "arch_exclude", read: func(p *parser, n *yaml.Node) { c.exclude = p.readWords(n, "arch_exclude") }},
		{name: "koji_build", read: line("koji_build", &c.build)},
		{name: "koji_tag", read: line("koji_tag", &c.tag)},
		{name: "build_log", read: flag("build_log", &c.logs)},
		{name: "debuginfo", read: flag("debuginfo", &c.debuginfo)},
		{name: "src", read: flag("src", &c.src)},
		{name: "target_dir", read: line("target_dir", &c.dir)},
	}
	before := len(p.mistakes)
	p.mapping(args, "koji", keys, nil)
	if len(p.mistakes) > before || c.action == nil || c.action.hasReference() {
		return // what a run alone can tell is told when it is resolved
	}
	if err := c.fits(c.action.parts[0].text); err != nil {
		p.mistake(args, "%s", strings.TrimPrefix(err.Error(), "cannot "))
	}
}

// actionWord reads the argument action, which is one of some words.
func (p *parser) actionWord(n *yaml.Node, words []string) *template {
	before := len(p.mistakes)
	t := p.lineTemplate(n, "action")
	if len(p.mistakes) == before && !t.hasReference() && !slices.Contains(words, n.Value) {
		p.mistake(n, "use %s as action: %s", shown(n.Value), didYouMean(n.Value, words))
	}
	return &t
}

// fits wants the argument that an action is about, and not the other one.
func (c *koji) fits(action string) error {
	switch {
	case action == kojiTag && c.tag == nil:
		return fmt.Errorf("cannot download a tag without its name: write koji_tag: TAG")
	case action == kojiTag && c.build != nil:
		return fmt.Errorf("cannot download both a tag and a build in one action: write only koji_tag, or action: %s", kojiDownload)
	case action != kojiTag && c.build == nil:
		return fmt.Errorf("cannot download a build without its name: write koji_build: NAME-VERSION-RELEASE")
	case action != kojiTag && c.tag != nil:
		return fmt.Errorf("cannot download both a build and a tag in one action: write only koji_build, or action: %s", kojiTag)
	}
	return nil
}

func (c *koji) resolve(s *scope) (assay.Action, error) {
	action, err := lineText(s, c.action, "action")
	if err != nil {
		return assay.Action{}, err
	}
	if !slices.Contains(kojiActions(), action) {
		return assay.Action{}, fmt.Errorf("cannot use %s as action: %s", shown(action), didYouMean(action, kojiActions()))
	}
	if err := c.fits(action); err != nil {
		return assay.Action{}, err
	}
	f := &assay.KojiFetch{Latest: action == kojiLatest}
	if f.Build, err = lineText(s, c.build, "koji_build"); err != nil {
		return assay.Action{}, err
	}
	if f.Tag, err = lineText(s, c.tag, "koji_tag"); err != nil {
		return assay.Action{}, err
	}
	if err := c.options(s, f); err != nil {
		return assay.Action{}, err
	}
	dir, err := targetDir(s, c.dir)
	return assay.Action{Fetch: &assay.Fetch{Dir: dir, Koji: f}}, err
}

// options evaluates which of the files are wanted.
func (c *koji) options(s *scope, f *assay.KojiFetch) (err error) {
	var source bool
	if f.Arches, f.Source, err = archesOf(s, c.arch, "arch"); err != nil {
		return err
	}
	if f.Exclude, source, err = archesOf(s, c.exclude, "arch_exclude"); err != nil {
		return err
	}
	noSource := source
	if source, err = flagOf(s, c.src, "src"); err != nil {
		return err
	}
	f.Source = (f.Source || source) && !noSource
	if f.Debuginfo, err = flagOf(s, c.debuginfo, "debuginfo"); err != nil {
		return err
	}
	f.BuildLogs, err = flagOf(s, c.logs, "build_log")
	return err
}

func (*koji) manual() manual {
	return manual{
		short: "download builds from Koji",
		text: "The host downloads the packages and brings them into the machine, which needs no\n" +
			"network. Where from is the operator's to say; see docs/downloads.md.\n\n" +
			"download takes koji_build; download_latest_stable takes it too, and downloads the newest\n" +
			"build of the same package among the updates of its release, or else in the release\n" +
			"itself: without one the value is an empty mapping. download_tag takes koji_tag, and\n" +
			"downloads every build that has this tag.",
		args: []argument{
			{name: "action", required: true, shape: shapeEither(shapeWords(kojiDownload, kojiTag, kojiLatest), shapeText()), text: "What is downloaded: download, download_tag or download_latest_stable."},
			{name: "arch", required: true, shape: shapeWordsOrText(), text: "An architecture or a list of them: all stands for every one, src for source packages, [] for no binary package; noarch comes along by itself, and i686 with i386."},
			{name: "arch_exclude", shape: shapeWordsOrText(), text: "Architectures that are left out, whatever arch says."},
			{name: "koji_build", shape: shapeText(), text: "The build: NAME-VERSION-RELEASE, with or without an epoch."},
			{name: "koji_tag", shape: shapeText(), text: "The tag, for download_tag."},
			{name: "build_log", shape: shapeFlag(), otherwise: "false", text: "Also download build.log of each architecture, as build.log.ARCH; not for download_tag."},
			{name: "debuginfo", shape: shapeFlag(), otherwise: "false", text: "Also download debuginfo and debugsource packages."},
			{name: "src", shape: shapeFlag(), otherwise: "false", text: "Also download source packages."},
			targetDirArgument(),
		},
		value: "a mapping: downloaded_rpms and downloaded_logs (paths), log_errors (architectures)",
		example: "name: download the build\nkoji:\n  action: download\n  koji_build: ${koji_build}\n  arch: [x86_64, i386]\n" +
			"  src: true\n  target_dir: ${workdir}/rpms\nexport: downloaded\n",
	}
}
