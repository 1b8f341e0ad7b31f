package runner

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"
)

// The streams of a log line.
const (
	StreamRun = "run" // the runner's own words
	StreamOut = "out" // a command's standard output
	StreamErr = "err" // a command's standard error
)

// LogTime is the layout of the time on a log line: UTC, milliseconds.
const LogTime = "2006-01-02T15:04:05.000Z"

// maxLogLine bounds the text of one line; a longer one is split.
const maxLogLine = 64 << 10

// Log writes the log of one attempt: one line each of
//
//	2026-11-21T17:15:10.123Z STEP STREAM TEXT
//
// with single spaces, STEP the number of the formula's action (0 for what the
// runner does around them) and STREAM one of run, out, err. What a maintainer
// sees on the terminal and what the server keeps are the same bytes. The zero
// value is not usable; see NewLog. Its methods may be called at the same time.
type Log struct {
	now   func() time.Time
	limit int64
	full  func() // called once, when a command prints beyond the limit
	mask  *Mask  // for what Say says; streams are masked before they come here

	mu      sync.Mutex
	w       io.Writer
	written int64
	flooded bool
	err     error
	buf     []byte
}

// NewLog writes to w. Of what commands print at most limit bytes are kept, their
// lines' beginnings counted in; at the first line beyond it full is called once, and the rest is dropped with a
// line that says so. The runner's own words are always written.
func NewLog(w io.Writer, limit int64, full func()) *Log {
	return &Log{w: w, now: time.Now, limit: limit, full: full}
}

// Say writes one line in the runner's own words.
func (l *Log) Say(step int, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := fmt.Appendf(nil, format, args...)
	if l.mask != nil {
		text = []byte(l.mask.Text(string(text)))
	}
	text = bytes.ReplaceAll(text, []byte("\n"), []byte(" "))
	l.buf = l.appendLine(l.buf[:0], step, StreamRun, text)
	l.flush()
}

// Err returns the first error of the underlying writer.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Stream returns a writer for one stream of one step's command. Close it after
// the command: that writes a last line without an end.
func (l *Log) Stream(step int, stream string) io.WriteCloser {
	return &logStream{log: l, step: step, stream: stream}
}

func (l *Log) appendLine(buf []byte, step int, stream string, text []byte) []byte {
	buf = l.now().UTC().AppendFormat(buf, LogTime)
	buf = append(buf, ' ')
	buf = strconv.AppendInt(buf, int64(step), 10)
	buf = append(buf, ' ')
	buf = append(buf, stream...)
	buf = append(buf, ' ')
	buf = append(buf, text...)
	return append(buf, '\n')
}

// flush hands l.buf on; the lock is held.
func (l *Log) flush() {
	if l.err == nil && len(l.buf) > 0 {
		_, l.err = l.w.Write(l.buf)
	}
}

// print writes whole lines of a command; the last one may lack its end when
// final is set. It returns what is left over.
func (l *Log) print(step int, stream string, data []byte, final bool) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = l.buf[:0]
	for len(data) > 0 && !l.flooded {
		line, rest, ok := cutLine(data, final)
		if !ok {
			break
		}
		data = rest
		before := len(l.buf)
		l.buf = l.appendLine(l.buf, step, stream, line)
		if l.written += int64(len(l.buf) - before); l.written > l.limit {
			l.flooded = true
			l.buf = l.appendLine(l.buf[:before], step, StreamRun,
				fmt.Appendf(nil, "the commands printed more than %s: the rest is not kept", Bytes(l.limit)))
			l.full()
			break
		}
	}
	l.flush()
	if l.flooded {
		return nil
	}
	return data
}

// cutLine takes the next line, split where it is too long.
func cutLine(data []byte, final bool) (line, rest []byte, ok bool) {
	end := bytes.IndexByte(data, '\n')
	switch {
	case end >= 0 && end <= maxLogLine:
		return bytes.TrimSuffix(data[:end], []byte("\r")), data[end+1:], true
	case len(data) > maxLogLine:
		return data[:maxLogLine], data[maxLogLine:], true
	case final:
		return data, nil, true
	}
	return nil, data, false
}

type logStream struct {
	log    *Log
	step   int
	stream string
	mu     sync.Mutex
	rest   []byte
}

func (s *logStream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data := p
	if len(s.rest) > 0 {
		data = append(s.rest, p...)
	}
	// What is left over may lie in p, which belongs to the caller.
	s.rest = append([]byte(nil), s.log.print(s.step, s.stream, data, false)...)
	return len(p), nil
}

func (s *logStream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.print(s.step, s.stream, s.rest, true)
	s.rest = nil
	return s.log.Err()
}

// Bytes words a number of bytes for people: "64 MiB", "1.5 GiB", "12 B".
func Bytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	return strconv.FormatFloat(float64(int64(f*10))/10, 'f', -1, 64) + " " + units[i]
}
