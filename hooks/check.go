package hooks

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Status is what Check found out about a repository.
type Status struct {
	GitDir    string
	Installed map[string]bool // by hook: "pre-receive", "post-receive"
	Exe       string          // the program that they run
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
	s := Status{GitDir: gitDir, Installed: map[string]bool{}}
	if _, err := hooksDir(gitDir, hooksPath); err != nil {
		s.Problems = append(s.Problems, err.Error())
	}
	for _, name := range hookNames() {
		s.checkHook(filepath.Join(gitDir, "hooks", name), name)
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

func (s *Status) checkHook(path, name string) {
	ours, err := isOurs(path)
	info, statErr := os.Stat(path)
	switch {
	case err != nil:
		s.Problems = append(s.Problems, fmt.Sprintf("cannot read the hook %s: %v: make it readable", name, err))
	case !ours:
		s.Problems = append(s.Problems, fmt.Sprintf("cannot find assay in the hook %s: run assay hook install", name))
	case statErr != nil || info.Mode()&0o111 == 0:
		s.Problems = append(s.Problems, fmt.Sprintf("cannot run the hook %s: it is not executable: run assay hook install again", name))
	default:
		s.Installed[name] = true
		s.checkProgram(path, name)
	}
	for _, other := range filesIn(path+".d", "", "") {
		if info, err := os.Stat(other); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			s.Others = append(s.Others, filepath.Join("hooks", name+".d", filepath.Base(other)))
		}
	}
}

// checkProgram looks at the program that a stub names.
func (s *Status) checkProgram(path, name string) {
	data, err := os.ReadFile(path)
	if err == nil {
		_, rest, _ := strings.Cut(string(data), "\nassay=")
		line, _, _ := strings.Cut(rest, "\n")
		s.Exe = unquote(line)
		_, err = checkExe(s.Exe)
	}
	if err != nil {
		s.Problems = append(s.Problems, fmt.Sprintf("cannot run the hook %s: %s is not there: run assay hook install again", name, s.Exe))
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
