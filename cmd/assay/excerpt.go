package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/runner"
)

const (
	excerptBytes = 64 << 10 // of the log's end that are looked at
	excerptLines = 15
)

// logOpener opens the log of an attempt.
type logOpener interface {
	OpenLog(id string, attempt int) (*os.File, error)
}

// excerpt is the end of what an execution's commands printed in its newest
// attempt. A log that retention has removed has none.
func excerpt(files logOpener, x assay.Execution) ([]string, error) {
	log, err := files.OpenLog(x.ID, x.Attempt)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, assay.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the end of the log: %w", err)
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot read the end of the log: %w", err)
	}
	begin := max(info.Size()-excerptBytes, 0)
	data, err := io.ReadAll(io.NewSectionReader(log, begin, excerptBytes))
	if err != nil {
		return nil, fmt.Errorf("cannot read the end of the log: %w", err)
	}
	if _, rest, found := bytes.Cut(data, []byte("\n")); found && begin > 0 {
		data = rest // the first line is torn
	}
	return lastPrinted(data), nil
}

// lastPrinted are the last lines of a log that a command printed; see runner.Log
// for the form of a line.
func lastPrinted(log []byte) []string {
	var lines []string
	for line := range bytes.Lines(log) {
		parts := bytes.SplitN(bytes.TrimSuffix(line, []byte("\n")), []byte(" "), 4)
		if len(parts) < 4 || string(parts[2]) != runner.StreamOut && string(parts[2]) != runner.StreamErr {
			continue
		}
		lines = append(lines, string(parts[3]))
	}
	return lines[max(len(lines)-excerptLines, 0):]
}
