package web

import (
	"bytes"
	"strconv"
	"time"
)

// Streams of a log line, as the runner writes them.
const (
	streamOut = "out" // the command's standard output
	streamErr = "err" // the command's standard error
	streamRun = "run" // the runner's own words
)

// logLine is one line of a log. The runner writes
//
//	2026-11-21T17:15:10.123Z STEP STREAM TEXT
//
// with single spaces; STEP is a number, 0 for what the runner does around the
// steps. A line of any other form is all Text, with no Stream.
type logLine struct {
	At     time.Time
	Step   int
	Stream string
	Text   []byte // shares the memory of the line that was parsed
}

// parseLogLine reads one line without its newline. It takes anything.
func parseLogLine(line []byte) logLine {
	malformed := logLine{Text: line}
	stamp, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || len(stamp) > 40 {
		return malformed
	}
	number, rest, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return malformed
	}
	step, ok := parseStep(number)
	if !ok {
		return malformed
	}
	stream, content, _ := bytes.Cut(rest, []byte(" "))
	known, ok := parseStream(stream)
	if !ok {
		return malformed
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return malformed
	}
	return logLine{At: at.UTC(), Step: step, Stream: known, Text: content}
}

func parseStep(number []byte) (step int, ok bool) {
	if len(number) == 0 || len(number) > 6 || number[0] < '0' || number[0] > '9' {
		return 0, false
	}
	step, err := strconv.Atoi(string(number))
	return step, err == nil
}

func parseStream(stream []byte) (known string, ok bool) {
	switch string(stream) {
	case streamOut:
		return streamOut, true
	case streamErr:
		return streamErr, true
	case streamRun:
		return streamRun, true
	}
	return "", false
}

// lineStep is the step of a line without parsing all of it: the index looks at
// every line of a log. It is -1 for a line of another form.
func lineStep(line []byte) int {
	const stamp = len("2026-11-21T17:15:10.123Z")
	if len(line) < stamp+2 || line[stamp] != ' ' || line[stamp-1] != 'Z' {
		return -1
	}
	number, _, ok := bytes.Cut(line[stamp+1:min(len(line), stamp+9)], []byte(" "))
	if !ok {
		return -1
	}
	if step, ok := parseStep(number); ok {
		return step
	}
	return -1
}
