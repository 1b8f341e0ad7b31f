package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/assay-ci/assay/checks"
)

//go:embed starter
var starters embed.FS

// starterKinds are the directories below starter.
func starterKinds() []string { return []string{"shell", "python", "tap", "dep8"} }

// initOptions are the flags of assay init.
type initOptions struct {
	kind, name, pkg, schema string
}

func newInitCommand(e *env) *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Write a check to start from",
		Long: `Init writes the files of a check into a directory, this one by default. They run
as they are. What is there already is never overwritten.

  shell   a formula and a script that fails or not
  python  a formula and a Python function that returns results
  tap     a formula and a script that prints TAP, a result for each test
  dep8    debian/tests, as Debian's autopkgtest runs them; DIR is the source tree`,
		Example: "  assay init greets --package rpms/hello\n  assay init --kind dep8 --package hello ~/src/hello",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(starterKinds(), o.kind) {
				return usagef(cmd, "cannot write a check of the kind %q: write %s", o.kind, strings.Join(starterKinds(), ", "))
			}
			return o.run(e, append(args, ".")[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.kind, "kind", "shell", strings.Join(starterKinds(), ", "))
	f.StringVar(&o.name, "name", "", "the check's name (default: the directory's)")
	f.StringVar(&o.pkg, "package", "", "the package that it is for, such as rpms/hello")
	f.StringVar(&o.schema, "schema", checks.SchemaID, "address of the schema, for editors; a server has it at /schema/formula.json")
	return cmd
}

// starter is what the files to start from are filled in with.
type starter struct {
	Dir, Name, Maintainer, Schema string
	What                          string // "rpms/hello", or words for any package
	Short                         string // "hello"
	Item                          string // a build, for an example
	TestName                      string // as DEP-8 allows it
	Source                        bool   // the directory is a Debian source tree
}

func (o initOptions) run(e *env, dir string) error {
	s, err := o.fill(dir)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if o.kind == "dep8" && !s.Source && o.pkg == "" {
		return &exitError{exitUsage, fmt.Errorf("cannot tell what to test: there is no debian/control in %s: name the package's source tree, or the package with --package", dir)}
	}
	files, err := s.render(o.kind)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if err := writeNew(dir, files); err != nil {
		return err
	}
	for _, f := range files {
		fmt.Fprintf(e.out, "wrote %s\n", filepath.Join(dir, f.name))
	}
	fmt.Fprint(e.out, s.next(o.kind))
	return nil
}

// fill finds out what the flags do not say.
func (o initOptions) fill(dir string) (starter, error) {
	full, err := filepath.Abs(dir)
	if err != nil {
		return starter{}, fmt.Errorf("cannot find the directory %s: %w", dir, err)
	}
	s := starter{Dir: dir, Name: o.name, Maintainer: "somebody", Schema: o.schema, What: "the package", Short: "hello"}
	if s.Name == "" {
		s.Name = regexp.MustCompile(`^[^A-Za-z0-9]+|[^A-Za-z0-9._+-]+`).ReplaceAllString(filepath.Base(full), "")
	}
	if o.pkg != "" {
		s.What, s.Short = o.pkg, path.Base(o.pkg)
		if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+/-]*$`).MatchString(o.pkg) {
			return s, fmt.Errorf("cannot write a check for the package %q: write its name as the server has it, such as rpms/hello", o.pkg)
		}
	}
	if strings.ContainsAny(s.Schema+s.Dir, "\r\n") {
		return s, errors.New("cannot write the check: the directory or the schema's address has a line end in it: write them in one line")
	}
	if who, err := user.Current(); err == nil && who.Username != "" {
		s.Maintainer = who.Username
	}
	info, err := os.Stat(filepath.Join(dir, "debian", "control"))
	s.Source = err == nil && info.Mode().IsRegular()
	s.Item = s.Short + "-1.0-1"
	s.TestName = strings.Trim(regexp.MustCompile(`[^A-Za-z0-9+.-]+`).ReplaceAllString(s.Name, "-"), "-.")
	return s, nil
}

// starterFile is one file to write.
type starterFile struct {
	name string // slash-separated, below the directory
	data []byte
	mode fs.FileMode
}

// render fills in the files of a kind. A formula that lint finds a mistake in is
// an error: a name that no check may have.
func (s starter) render(kind string) ([]starterFile, error) {
	var files []starterFile
	root := path.Join("starter", kind)
	err := fs.WalkDir(starters, root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(starters, name)
		if err != nil {
			return err
		}
		f := starterFile{name: strings.TrimPrefix(name, root+"/"), mode: 0o644}
		if f.data, err = s.execute(string(text)); err != nil {
			return err
		}
		if bytes.HasPrefix(f.data, []byte("#!")) {
			f.mode = 0o755
		}
		if f.name == "debian/tests/test" {
			f.name = "debian/tests/" + s.TestName
		}
		files = append(files, f)
		return nil
	})
	if err == nil && kind == "dep8" && (s.TestName == "" || s.TestName == "control") {
		err = fmt.Errorf("cannot call a test %q: give it a name with --name", s.Name)
	}
	if err == nil && kind != "dep8" {
		err = lintStarter(files)
	}
	return files, err
}

func lintStarter(files []starterFile) error {
	for _, f := range files {
		if f.name == "runtask.yml" {
			if _, err := checks.Parse(f.name, f.data); err != nil {
				return fmt.Errorf("cannot write such a check: give it a name with --name\n%w", err)
			}
		}
	}
	return nil
}

func (s starter) execute(text string) ([]byte, error) {
	t, err := template.New("starter").Funcs(template.FuncMap{"word": yamlWord, "line": yamlLine, "json": jsonText}).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("cannot read an embedded file: %v", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, s); err != nil {
		return nil, fmt.Errorf("cannot fill in an embedded file: %v", err)
	}
	return b.Bytes(), nil
}

// yamlWord writes a word for YAML, in quotes where YAML might take it for
// something else.
func yamlWord(s string) string {
	if regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._+-]*$`).MatchString(s) && !slices.Contains([]string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}, strings.ToLower(s)) {
		return s
	}
	return jsonText(s)
}

// yamlLine writes a line of text for YAML.
func yamlLine(before, s string) string {
	if s = before + s; regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._+/@-]* [A-Za-z0-9 ._+/@-]*$`).MatchString(s) {
		return s
	}
	return yamlWord(s)
}

// jsonText quotes a text as JSON does, which YAML and Python read alike.
func jsonText(s string) string {
	data, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(data)
}

// writeNew writes files that must not be there yet: all, or none.
func writeNew(dir string, files []starterFile) error {
	for _, f := range files {
		target := filepath.Join(dir, f.name)
		if _, err := os.Lstat(target); err == nil {
			return fmt.Errorf("cannot write %s: it is there already: name another directory", target)
		}
	}
	var written []string
	for _, f := range files {
		target := filepath.Join(dir, f.name)
		err := os.MkdirAll(filepath.Dir(target), 0o755)
		if err == nil {
			err = writeExclusive(target, f.data, f.mode)
		}
		if err != nil {
			for _, name := range written {
				err = errors.Join(err, os.Remove(name))
			}
			return fmt.Errorf("cannot write %s: %w", target, err)
		}
		written = append(written, target)
	}
	return nil
}

func writeExclusive(target string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return errors.Join(err, os.Remove(target))
	}
	return nil
}

// next tells what to do with the files.
func (s starter) next(kind string) string {
	dir := shellWord(s.Dir)
	run := fmt.Sprintf("assay run %s -i %s -t koji_build", dir, s.Item)
	if kind == "dep8" {
		run = "assay run " + dir + " --vm"
	}
	return fmt.Sprintf(`
next:
  assay lint %s
  %s
  then git push, in the package's repository of checks
`, dir, run)
}

// shellWord quotes a word for a shell, where it must be.
func shellWord(s string) string {
	if regexp.MustCompile(`^[A-Za-z0-9._/+-]+$`).MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
