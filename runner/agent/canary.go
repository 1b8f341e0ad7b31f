package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// maxCanary bounds what is read of a canary, in bytes.
const maxCanary = 64

// Canary proves that a machine is used once. When a machine is handed out the
// host has it leave a mark of its own wherever something could survive: in the
// agent's memory, in a file in memory and in one on the disk. A machine that
// already has another's mark was not clean.
type Canary struct {
	Paths []string // files for the mark

	mu   sync.Mutex
	held string
}

// Prepare has the files there, with no mark in them: the forks of a machine that
// is frozen then only write over what is there. A file that has a mark keeps it.
func (c *Canary) Prepare() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, path := range c.Paths {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("cannot make room for the machine's mark: %w", err)
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err == nil {
			_, err = f.WriteString(strings.Repeat(" ", maxCanary))
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			return fmt.Errorf("cannot make room for the machine's mark: %w", err)
		}
	}
	return nil
}

// Swap leaves a mark and returns another one that was there before, "" if none.
func (c *Canary) Swap(mark string) (seen string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := []string{c.held}
	c.held = mark
	for _, path := range c.Paths {
		old, err := swapMark(path, mark)
		if err != nil {
			return "", err
		}
		found = append(found, old)
	}
	for _, old := range found {
		if old != "" && old != mark {
			return old, nil
		}
	}
	return "", nil
}

// swapMark writes a mark over the one that a file has, which it returns.
func swapMark(path, mark string) (old string, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		}
	}
	if err != nil {
		return "", fmt.Errorf("cannot leave the machine's mark: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	text, err := io.ReadAll(io.LimitReader(f, maxCanary))
	if err != nil {
		return "", fmt.Errorf("cannot look for another machine's mark: %w", err)
	}
	if old = strings.TrimSpace(string(text)); old == mark {
		return old, nil
	}
	if err := overwrite(f, mark+strings.Repeat(" ", maxCanary-min(maxCanary, len(mark)))); err != nil {
		return "", fmt.Errorf("cannot leave the machine's mark: %w", err)
	}
	return old, nil
}
