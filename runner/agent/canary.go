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

// Swap leaves a mark and returns another one that was there before, "" if none.
func (c *Canary) Swap(mark string) (seen string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := []string{c.held}
	c.held = mark
	for _, path := range c.Paths {
		old, err := readMark(path)
		if err != nil {
			return "", err
		}
		found = append(found, old)
		if old == mark {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", fmt.Errorf("cannot leave the machine's mark: %w", err)
		}
		if err := os.WriteFile(path, []byte(mark), 0o600); err != nil {
			return "", fmt.Errorf("cannot leave the machine's mark: %w", err)
		}
	}
	for _, old := range found {
		if old != "" && old != mark {
			return old, nil
		}
	}
	return "", nil
}

func readMark(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot look for another machine's mark: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxCanary))
	if err != nil {
		return "", fmt.Errorf("cannot look for another machine's mark: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
