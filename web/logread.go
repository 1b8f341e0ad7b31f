package web

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// tailWindow is how far back from the end of a log the last lines of a step are
// looked for.
const tailWindow = 1 << 20

// lineReader reads lines of which it keeps a bounded beginning.
type lineReader struct{ r *bufio.Reader }

func newLineReader(r io.Reader) lineReader {
	return lineReader{bufio.NewReaderSize(r, maxShown+128)}
}

// next returns a line without its newline, and how many bytes of it were left
// out. The line is the caller's. The error is io.EOF after the last line.
func (l lineReader) next() (line []byte, cut int64, err error) {
	piece, err := l.r.ReadSlice('\n')
	line = bytes.Clone(bytes.TrimSuffix(piece, []byte("\n")))
	for errors.Is(err, bufio.ErrBufferFull) {
		piece, err = l.r.ReadSlice('\n')
		cut += int64(len(bytes.TrimSuffix(piece, []byte("\n"))))
	}
	if err == io.EOF && len(line) > 0 {
		err = nil
	}
	return line, cut, err
}

// logStart is the time of the first line that has one, from which a page counts.
func logStart(f io.ReaderAt) time.Time {
	lines := newLineReader(io.NewSectionReader(f, 0, maxShown))
	for range 20 {
		line, _, err := lines.next()
		if err != nil {
			break
		}
		if at := parseLogLine(line).At; !at.IsZero() {
			return at
		}
	}
	return time.Time{}
}

// tail returns the last n lines of a step, or of the whole log when the step is
// negative or none of its lines are near the end.
func (sc logScan) tail(f io.ReaderAt, step, n int) ([]logRow, error) {
	rows, err := sc.lastRows(f)
	if err != nil {
		return nil, err
	}
	if step >= 0 {
		var its []logRow
		for _, r := range rows {
			if r.Line.Stream != "" && r.Line.Step == step {
				its = append(its, r)
			}
		}
		if len(its) > 0 {
			rows = its
		}
	}
	return rows[max(0, len(rows)-n):], nil
}

// lastRows reads the lines that begin in the window at the end of the log.
func (sc logScan) lastRows(f io.ReaderAt) ([]logRow, error) {
	from := max(0, sc.size-tailWindow)
	window := make([]byte, sc.size-from)
	if n, err := f.ReadAt(window, from); n < len(window) {
		return nil, fmt.Errorf("cannot read the end of the log: %v", err)
	}
	if from > 0 { // the line that the window begins in is not whole
		skip := bytes.IndexByte(window, '\n') + 1
		window = window[skip:]
		if skip == 0 {
			window = nil
		}
	}
	number := sc.lines - int64(bytes.Count(window, []byte("\n"))) + 1
	if len(window) > 0 && window[len(window)-1] != '\n' {
		number-- // the last line has no newline yet
	}
	return readRows(bytes.NewReader(window), 0, int64(len(window)), number)
}

// fileTail returns at most the last limit bytes of a file, beginning with a
// whole line where there is one.
func fileTail(f *os.File, limit int64) (tail []byte, total int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read %s: %v", f.Name(), err)
	}
	from := max(0, info.Size()-limit)
	tail, err = io.ReadAll(io.NewSectionReader(f, from, info.Size()-from))
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read %s: %v", f.Name(), err)
	}
	if at := bytes.IndexByte(tail, '\n'); from > 0 && at >= 0 {
		tail = tail[at+1:]
	}
	return tail, info.Size(), nil
}
