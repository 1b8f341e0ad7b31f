package resulttool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Link makes links to a program below dir, which is made if need be, under every
// name that the command has. Links that are there are made anew.
func Link(dir, program string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the directory of assay result: %w", err)
	}
	for _, name := range Names() {
		link := filepath.Join(dir, name)
		err := os.Symlink(program, link)
		if errors.Is(err, os.ErrExist) {
			err = errors.Join(os.Remove(link), os.Symlink(program, link))
		}
		if err != nil {
			return fmt.Errorf("cannot link assay result: %w", err)
		}
	}
	return nil
}

// Program is the program that runs, as others can start it: where it lies, or as
// long as it runs what the kernel keeps of it when it was removed or replaced.
func Program() string {
	path, err := os.Executable()
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return fmt.Sprintf("/proc/%d/exe", os.Getpid())
	}
	return path
}

// InPath is env with dir before everything else in its PATH. Of several the last
// counts, as it does for whoever starts a program with it.
func InPath(env []string, dir string) []string {
	path := ""
	for _, pair := range env {
		if value, ok := strings.CutPrefix(pair, "PATH="); ok {
			path = value
		}
	}
	if path != "" {
		dir += string(os.PathListSeparator) + path
	}
	return append(env[:len(env):len(env)], "PATH="+dir)
}
