package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// memoryUse is what a process has, in bytes (proc(5), smaps_rollup).
type memoryUse struct{ private, proportional int64 }

// qemuMemory finds the process of a virtual machine by its name.
func qemuMemory(name string) (memoryUse, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return memoryUse{}, err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err == nil && bytes.Contains(text, []byte("guest="+name+",")) {
			return readMemory(filepath.Join(filepath.Dir(path), "smaps_rollup"))
		}
	}
	return memoryUse{}, fmt.Errorf("cannot find the process of %s", name)
}

func readMemory(path string) (memoryUse, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return memoryUse{}, fmt.Errorf("cannot read how much memory a machine has: %w", err)
	}
	var use memoryUse
	for line := range strings.Lines(string(text)) {
		var key string
		var kib int64
		if n, _ := fmt.Sscanf(line, "%s %d kB", &key, &kib); n != 2 {
			continue
		}
		switch key {
		case "Private_Clean:", "Private_Dirty:":
			use.private += kib << 10
		case "Pss:":
			use.proportional = kib << 10
		}
	}
	return use, nil
}
