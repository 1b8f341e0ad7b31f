package agent

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// renewKeys removes the host keys that a template's sshd made and has new ones of
// the same kinds made beside everything else: two machines must not have the same
// ones, and a check seldom waits for them. It does nothing where there is no sshd.
func renewKeys(dir string) error {
	return renewKeysWith(dir, `for key; do
	kind=${key##*/ssh_host_}
	ssh-keygen -q -N '' -t "${kind%_key}" -f "$key"
done
for unit in ssh sshd; do systemctl try-restart $unit; done`)
}

// renewKeysWith has a shell command make the new ones, whose paths are its
// arguments.
func renewKeysWith(dir, command string) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	keys, err := filepath.Glob(filepath.Join(dir, "ssh_host_*_key*"))
	if err != nil || len(keys) == 0 {
		return err
	}
	// In the background of a shell, which is waited for: the machine's init takes
	// over the rest. A running sshd has the old keys in its memory.
	argv := []string{"-c", "{ " + command + "; } >/dev/null 2>&1 </dev/null &", "sh"}
	for _, key := range keys {
		if err := os.Remove(key); err != nil {
			return fmt.Errorf("cannot remove a template's host key: %w", err)
		}
		if strings.HasSuffix(key, "_key") {
			argv = append(argv, key)
		}
	}
	if err := exec.Command("/bin/sh", argv...).Run(); err != nil {
		return fmt.Errorf("cannot make new host keys: %w", err)
	}
	return nil
}
