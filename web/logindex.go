package web

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"sync"
)

// Bounds of a log page: what a browser lays out at once without trouble. A page
// ends at whichever comes first.
const (
	pageLines = 5000
	pageBytes = 1 << 20
)

const (
	maxIndexes = 64   // logs whose index is kept
	maxSteps   = 1000 // steps of which an index knows the first line
	scanBlock  = 256 << 10
)

// indexes keeps the indexes of logs that were looked at lately. An index costs
// 16 bytes a page, the scan it saves up to a gigabyte of reading.
type indexes struct {
	mu    sync.Mutex
	byKey map[string]*logIndex
	order []string // oldest first
}

func newIndexes() *indexes { return &indexes{byKey: map[string]*logIndex{}} }

// of returns the index of the log that key names, brought up to the file's
// present size.
func (x *indexes) of(ctx context.Context, key string, f *os.File) (logScan, error) {
	return x.entry(key).extend(ctx, f)
}

func (x *indexes) entry(key string) *logIndex {
	x.mu.Lock()
	defer x.mu.Unlock()
	if ix, ok := x.byKey[key]; ok {
		return ix
	}
	if len(x.order) == maxIndexes {
		delete(x.byKey, x.order[0])
		x.order = x.order[1:]
	}
	ix := &logIndex{}
	x.byKey[key] = ix
	x.order = append(x.order, key)
	return ix
}

// logIndex knows where the pages of one log begin. It only ever grows with its
// file; a file that is another one than before is scanned anew.
type logIndex struct {
	mu   sync.Mutex
	info os.FileInfo
	logScan
}

// logScan is what a scan found. It is a value: a later scan of the growing log
// does not change the one that a request works with.
type logScan struct {
	pages []logPageStart
	steps map[int]int64 // first line of each step; not changed once it is handed out
	size  int64         // bytes scanned
	lines int64         // lines begun: a last one without newline counts
	fresh bool          // the next byte begins a line
}

type logPageStart struct {
	offset int64
	line   int64 // number of its first line
}

func (ix *logIndex) extend(ctx context.Context, f *os.File) (logScan, error) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	info, err := f.Stat()
	if err != nil {
		return logScan{}, fmt.Errorf("cannot read the log: %v", err)
	}
	if ix.info == nil || !os.SameFile(ix.info, info) || info.Size() < ix.size {
		ix.logScan = logScan{fresh: true}
	}
	ix.info = info
	next := ix.logScan
	next.steps = make(map[int]int64, len(ix.steps))
	for step, line := range ix.steps {
		next.steps[step] = line
	}
	if err := next.scan(ctx, f, info.Size()); err != nil {
		return logScan{}, err
	}
	ix.logScan = next
	return next, nil
}

// scan reads on to the given size.
func (sc *logScan) scan(ctx context.Context, f io.ReaderAt, size int64) error {
	block := make([]byte, min(scanBlock, max(size-sc.size, 0)))
	for sc.size < size {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.ReadAt(block[:min(int64(len(block)), size-sc.size)], sc.size)
		if n == 0 {
			return fmt.Errorf("cannot read the log at byte %d: %v", sc.size, err)
		}
		if whole := bytes.LastIndexByte(block[:n], '\n') + 1; whole > 0 && sc.size+int64(n) < size {
			n = whole // so that no line is seen in two pieces
		}
		sc.take(block[:n])
	}
	return nil
}

func (sc *logScan) take(block []byte) {
	for len(block) > 0 {
		end := bytes.IndexByte(block, '\n') + 1
		whole := end > 0
		if !whole {
			end = len(block)
		}
		if sc.fresh {
			sc.begin(block[:end])
		}
		sc.size += int64(end)
		sc.fresh = whole
		block = block[end:]
	}
}

// begin takes note of a line, of which it may see only a beginning.
func (sc *logScan) begin(line []byte) {
	sc.lines++
	if last := len(sc.pages) - 1; last < 0 ||
		sc.lines-sc.pages[last].line >= pageLines || sc.size-sc.pages[last].offset >= pageBytes {
		sc.pages = append(sc.pages, logPageStart{sc.size, sc.lines})
	}
	if step := lineStep(line); step > 0 && len(sc.steps) < maxSteps {
		if _, ok := sc.steps[step]; !ok {
			sc.steps[step] = sc.lines
		}
	}
}

// page returns which page has the line; the first or last page for a line
// before or beyond the log. An empty log has no page: -1.
func (sc logScan) page(line int64) int {
	lo, hi := 0, len(sc.pages)
	for lo < hi {
		mid := (lo + hi) / 2
		if sc.pages[mid].line <= line {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return max(lo-1, min(0, len(sc.pages)-1))
}

// rows reads the lines of one page.
func (sc logScan) rows(f io.ReaderAt, page int) ([]logRow, error) {
	if page < 0 || page >= len(sc.pages) {
		return nil, nil
	}
	start, end := sc.pages[page], sc.size
	if page+1 < len(sc.pages) {
		end = sc.pages[page+1].offset
	}
	return readRows(f, start.offset, end, start.line)
}

// readRows reads the lines between two offsets, the first of which begins the
// line of the given number. Of a line that is too long to show it keeps the
// beginning.
func readRows(f io.ReaderAt, from, to, number int64) ([]logRow, error) {
	var rows []logRow
	r := io.NewSectionReader(f, from, to-from)
	lines := newLineReader(r)
	for {
		line, cut, err := lines.next()
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the log: %v", err)
		}
		rows = append(rows, logRow{Number: number, Line: parseLogLine(line), Cut: cut})
		number++
	}
}
