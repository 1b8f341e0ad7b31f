package repo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// HooksPath tells what git says for core.hooksPath in the repository, "" if it
// is not set. It asks git itself, whose configuration comes from several files
// that include others.
func HooksPath(ctx context.Context, gitDir string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", "config", "--type=path", "--get", "core.hooksPath")
	cmd.Dir = gitDir
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); name != "GIT_DIR" && name != "GIT_WORK_TREE" {
			cmd.Env = append(cmd.Env, v)
		}
	}
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return strings.TrimRight(string(out), "\n"), nil
	case errors.As(err, &exit) && exit.ExitCode() == 1:
		return "", nil // not set (git-config, exit status)
	case errors.As(err, &exit):
		return "", fmt.Errorf("cannot ask git for core.hooksPath in %s: %s", gitDir, clip(string(exit.Stderr)))
	}
	return "", fmt.Errorf("cannot ask git for core.hooksPath: %v: install git", err)
}
