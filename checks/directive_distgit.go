package checks

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// distgit downloads files of a package's repository (COMPAT.md 1.1, distgit).
type distgit struct {
	pkg, nvr, ref, namespace *template
	baseURL, dir             *template
	paths, localPaths        expr
	ignoreMissing            expr
}

// Defaults of distgit.
const (
	distgitRef       = "master"
	distgitNamespace = "rpms"
)

func (c *distgit) read(p *parser, args *yaml.Node) {
	line := func(what string, into **template) func(*parser, *yaml.Node) {
		return func(p *parser, n *yaml.Node) { p.readLine(n, what, into) }
	}
	ok := p.mapping(args, "distgit", []key{
		{name: "package", read: line("package", &c.pkg)},
		{name: "nvr", read: line("nvr", &c.nvr)},
		{name: "gitref", read: line("gitref", &c.ref)},
		{name: "namespace", read: line("namespace", &c.namespace)},
		{name: "path", required: true, read: func(p *parser, n *yaml.Node) { c.paths = p.readList(n, "path") }},
		{name: "localpath", read: func(p *parser, n *yaml.Node) { c.localPaths = p.readList(n, "localpath") }},
		{name: "target_dir", read: line("target_dir", &c.dir)},
		{name: "baseurl", read: line("baseurl", &c.baseURL)},
		{name: "ignore_missing", read: func(p *parser, n *yaml.Node) { c.ignoreMissing = p.readFlag(n, "ignore_missing") }},
	}, nil)
	if !ok {
		return
	}
	if c.pkg == nil && c.nvr == nil && !has(args, "package", "nvr") {
		p.mistake(args, "download files of no package: write package: NAME, or nvr: NAME-VERSION-RELEASE")
	}
	paths, known := c.paths.(list)
	if known && len(paths) == 0 {
		p.mistake(args, "download no files: write at least one in path")
	}
	if local, ok := c.localPaths.(list); ok && known && len(local) != len(paths) {
		p.mistake(args, "save %s as %s: write as many in localpath as in path", files(len(paths)), files(len(local)))
	}
}

func files(n int) string {
	if n == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", n)
}

func (c *distgit) resolve(s *scope) (assay.Action, error) {
	f := &assay.DistGitFetch{}
	if err := c.repository(s, f); err != nil {
		return assay.Action{}, err
	}
	var err error
	if f.Paths, err = wordsOf(s, c.paths, "path"); err != nil {
		return assay.Action{}, err
	}
	if f.LocalPaths, err = wordsOf(s, c.localPaths, "localpath"); err != nil {
		return assay.Action{}, err
	}
	switch {
	case len(f.Paths) == 0:
		return assay.Action{}, fmt.Errorf("cannot download no files: write at least one in path")
	case c.localPaths != nil && len(f.LocalPaths) != len(f.Paths):
		return assay.Action{}, fmt.Errorf("cannot save %s as %s: write as many in localpath as in path", files(len(f.Paths)), files(len(f.LocalPaths)))
	}
	for _, name := range append(append([]string{}, f.Paths...), f.LocalPaths...) {
		if _, err := cleanFile(name, ""); err != nil {
			return assay.Action{}, fmt.Errorf("cannot use the path %s: write a relative one that leads nowhere else", shown(name))
		}
	}
	if f.IgnoreMissing, err = flagOf(s, c.ignoreMissing, "ignore_missing"); err != nil {
		return assay.Action{}, err
	}
	dir, err := targetDir(s, c.dir)
	return assay.Action{Fetch: &assay.Fetch{Dir: dir, DistGit: f}}, err
}

// repository evaluates which repository is meant, and where in it. What is
// written wins over what the nvr tells.
func (c *distgit) repository(s *scope, f *assay.DistGitFetch) (err error) {
	nvr, err := lineText(s, c.nvr, "nvr")
	if err != nil {
		return err
	}
	if f.Package, err = lineText(s, c.pkg, "package"); err != nil {
		return err
	}
	if f.Ref, err = lineText(s, c.ref, "gitref"); err != nil {
		return err
	}
	if f.Namespace, err = lineText(s, c.namespace, "namespace"); err != nil {
		return err
	}
	if f.BaseURL, err = lineText(s, c.baseURL, "baseurl"); err != nil {
		return err
	}
	if nvr != "" {
		name, branch, ok := cutNVR(nvr)
		switch {
		case !ok:
			return fmt.Errorf("cannot use %s as nvr: write NAME-VERSION-RELEASE", shown(nvr))
		case f.Ref == "" && branch == "":
			return fmt.Errorf("cannot tell the branch of %s, which has no dist tag such as .fc42: write gitref: BRANCH", shown(nvr))
		}
		f.Package, f.Ref = orElse(f.Package, name), orElse(f.Ref, branch)
	}
	f.Ref, f.Namespace = orElse(f.Ref, distgitRef), orElse(f.Namespace, distgitNamespace)
	return nil
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// cutNVR takes the name and the branch, f42 for .fc42, of a build's name; the
// branch is "" without such a dist tag.
func cutNVR(nvr string) (name, branch string, ok bool) {
	at := strings.LastIndexByte(nvr, '-')
	if at < 0 {
		return "", "", false
	}
	release := nvr[at+1:]
	end := strings.LastIndexByte(nvr[:at], '-')
	if end <= 0 || release == "" || at == end+1 {
		return "", "", false
	}
	if dist := strings.LastIndex(release, ".fc"); dist >= 0 {
		digits := release[dist+len(".fc"):]
		n := len(digits) - len(strings.TrimLeft(digits, "0123456789"))
		if n > 0 {
			branch = "f" + digits[:n]
		}
	}
	return nvr[:end], branch, true
}

func (*distgit) manual() manual {
	paths := shapeEither(shapeListOf(shapeText()), shapeText())
	return manual{
		short: "download files of a package's repository",
		text:  "Either package or nvr is needed. The host downloads the files; see docs/downloads.md.",
		args: []argument{
			{name: "package", shape: shapeText(), text: "The package's name."},
			{name: "nvr", shape: shapeText(), text: "A build, which tells the package and, by its dist tag, the branch: f42 for .fc42."},
			{name: "gitref", shape: shapeText(), otherwise: distgitRef, text: "A branch, a tag or a commit."},
			{name: "namespace", shape: shapeText(), otherwise: distgitNamespace, text: "Where the package's repository is."},
			{name: "path", required: true, shape: paths, text: "The files, as a list of paths in the repository."},
			{name: "localpath", shape: paths, otherwise: "path", text: "What they are called below target_dir, as a list of the same length."},
			targetDirArgument(),
			{name: "baseurl", shape: shapeText(), text: "Another server than the operator's default, one that they allow."},
			{name: "ignore_missing", shape: shapeFlag(), otherwise: "false", text: "Go on without files that are not there."},
		},
		value: "a mapping: downloaded_files is a list of paths",
		example: "name: download the spec file\ndistgit:\n  nvr: ${koji_build}\n  path: [hello.spec]\n  localpath: [specs/hello.spec]\n" +
			"  ignore_missing: true\nexport: files\n",
	}
}
