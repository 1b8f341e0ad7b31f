package hooks

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Status is what Check found out about a repository.
type Status struct {
	GitDir    string
	Layout    Layout          // of the git server, as it was installed or as it seems
	Installed map[string]bool // by hook: "pre-receive", "post-receive"
	// Current tells, by hook, that it is just as this program would write it.
	Current map[string]bool
	Exe     string // the program that they run
	// Others are the hooks that run before ours, as paths below the repository.
	Others   []string
	Config   Config
	Waiting  int      // events not yet delivered
	SetAside int      // events that the server refused, or that cannot be read
	Problems []string // each with its cure; empty if a push works
}

// Check looks at what is installed in a repository, with hooksPath being what
// git says for core.hooksPath there. Only a directory that is no repository is
// an error: everything else is a problem of the Status.
func Check(gitDir, hooksPath string) (Status, error) {
	gitDir, err := findGitDir(gitDir)
	if err != nil {
		return Status{}, err
	}
	s := Status{GitDir: gitDir, Layout: detect(gitDir), Installed: map[string]bool{}, Current: map[string]bool{}}
	if c, err := Load(gitDir); err == nil {
		s.Layout = c.layout()
	}
	if _, err := hooksDir(gitDir, hooksPath); err != nil && s.Layout != LayoutGitLab {
		s.Problems = append(s.Problems, err.Error())
	}
	slots, err := installedSlots(gitDir)
	if err != nil {
		s.Problems = append(s.Problems, err.Error())
	}
	for _, place := range slots {
		s.checkHook(place)
	}
	if s.Config, err = Load(gitDir); err != nil {
		s.Problems = append(s.Problems, err.Error())
	} else if f, err := os.Open(s.Config.SecretFile); err != nil {
		s.Problems = append(s.Problems, fmt.Sprintf("cannot read the webhook secret: %v: make it readable for whoever pushes", err))
	} else {
		_ = f.Close() // only opened to see whether it opens
	}
	s.count()
	return s, nil
}

func (s *Status) checkHook(place slot) {
	name := place.name
	ours, err := isOurs(place.path)
	info, statErr := os.Stat(place.path)
	switch {
	case err != nil:
		s.Problems = append(s.Problems, fmt.Sprintf("cannot read the hook %s: %v: make it readable", name, err))
	case !ours:
		s.Problems = append(s.Problems, fmt.Sprintf("cannot find assay in the hook %s: run assay hook install", name))
	case statErr != nil || info.Mode()&0o111 == 0:
		s.Problems = append(s.Problems, fmt.Sprintf("cannot run the hook %s: it is not executable: run assay hook install again", name))
	case !place.linked():
		s.Problems = append(s.Problems, fmt.Sprintf("cannot run the hook %s: %s does not lead to it: run gitolite setup --hooks-only", name, place.link))
	default:
		s.Installed[name] = true
		s.checkProgram(place)
	}
	dir := filepath.Join(s.GitDir, "hooks", name+".d")
	for _, other := range append(filesIn(dir, "", ""), filesIn(place.others, "", "")...) {
		if info, err := os.Stat(other); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			s.addOther(other)
		}
	}
}

// addOther notes a hook that runs beside ours, by its path below the repository if
// it is there.
func (s *Status) addOther(path string) {
	if rel, err := filepath.Rel(s.GitDir, path); err == nil && filepath.IsLocal(rel) {
		path = rel
	}
	if !slices.Contains(s.Others, path) && filepath.Base(path) != ownName {
		s.Others = append(s.Others, path)
	}
}

// linked tells whether the repository leads to the hook.
func (s slot) linked() bool {
	return s.link == "" || samePlace(s.link, s.path)
}

// checkProgram looks at the program that a stub names, and at its version.
func (s *Status) checkProgram(place slot) {
	data, err := os.ReadFile(place.path)
	if err == nil {
		_, rest, _ := strings.Cut(string(data), "\nassay=")
		line, _, _ := strings.Cut(rest, "\n")
		s.Exe = unquote(line)
		_, err = checkExe(s.Exe)
	}
	if err != nil {
		s.Problems = append(s.Problems, fmt.Sprintf("cannot run the hook %s: %s is not there: run assay hook install again", place.name, s.Exe))
		return
	}
	s.Current[place.name] = bytes.Equal(data, place.stub(s.Exe))
	if !s.Current[place.name] {
		s.Problems = append(s.Problems, fmt.Sprintf("cannot vouch for the hook %s: another version of assay wrote it, or somebody changed it: run assay hook install again", place.name))
	}
}

// count reads the spool without making one.
func (s *Status) count() {
	spool := &Spool{dir: filepath.Join(s.GitDir, "assay", "spool")}
	if _, err := os.Stat(spool.dir); err != nil {
		return
	}
	var err error
	if s.Waiting, err = spool.Left(); err != nil {
		s.Problems = append(s.Problems, err.Error())
	}
	if s.Waiting > 0 {
		s.Problems = append(s.Problems, fmt.Sprintf("cannot deliver %d events yet: see whether %s answers and has the same secret: assay hook deliver --git-dir %s tells", s.Waiting, s.Config.Server, s.GitDir))
	}
	if s.SetAside = spool.SetAside(); s.SetAside > 0 {
		s.Problems = append(s.Problems, fmt.Sprintf("cannot deliver %d events: the reasons are in %s: read them, then remove them", s.SetAside, spool.dir))
	}
}
