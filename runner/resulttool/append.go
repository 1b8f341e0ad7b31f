package resulttool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// MaxFile is the size of the largest file of results that is read in the end, in
// bytes: none is made larger.
const MaxFile = 8 << 20

// header is the first line of a file that Append makes.
const header = "results:\n"

// Append adds a result, written as a flow mapping on one line, to a file, and
// makes the file if need be. Processes wait for each other at the file's lock
// (flock(2)); the line is one write. Half a line, which a process left that was
// killed while it wrote, is taken out first: repaired tells of it. A file that
// somebody else began is gone on with if it is a block list below results, and
// refused, unchanged, if it is anything else.
func Append(name, line string) (repaired bool, err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NONBLOCK, 0o644)
	if err != nil {
		return false, fmt.Errorf("cannot open the results: %w", err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("cannot write the results: %w", cerr)
		}
	}()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return false, errors.Join(fmt.Errorf("cannot add results to %s: it is no plain file: name another", name), err)
	}
	if err := lock(f); err != nil {
		return false, fmt.Errorf("cannot lock %s: %w", name, err)
	}
	t, err := look(f)
	if err != nil {
		return false, fmt.Errorf("cannot add results to %s: %w", name, err)
	}
	if err := t.write(f, line); err != nil {
		return false, fmt.Errorf("cannot add results to %s: %w", name, err)
	}
	return t.torn, nil
}

// lock waits for the file's lock, which goes with the file.
func lock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// tail says how a file is gone on with.
type tail struct {
	size   int64  // of the file as it is
	at     int64  // where to write
	before string // what to write before the line: the header, a missing line end
	indent string // of the list
	torn   bool   // what is behind at is half a result
}

// write writes the line in one go. What did not fit on the disk is taken back.
func (t tail) write(f *os.File, line string) error {
	text := t.before + t.indent + "- " + line + "\n"
	if t.at+int64(len(text)) > MaxFile {
		return fmt.Errorf("it would grow beyond %d MiB, which nobody reads: report fewer results, or shorter notes", MaxFile>>20)
	}
	if t.torn {
		if err := f.Truncate(t.at); err != nil {
			return err
		}
	}
	if _, err := f.WriteAt([]byte(text), t.at); err != nil {
		return errors.Join(err, f.Truncate(min(t.at, t.size)))
	}
	if end := t.at + int64(len(text)); end < t.size {
		return f.Truncate(end)
	}
	return nil
}

// errForeign tells of a file that cannot be gone on with.
var errForeign = errors.New("it is not written as results: with \"- \" lines below it, and nothing behind them: name another file, or remove this one")

// heading tells whether a line is the one that the list stands below, and whether
// an empty list stands in it already.
func heading(text string) (is, empty bool) {
	rest, is := strings.CutPrefix(text, "results:")
	if before, _, comment := strings.Cut(" "+rest, " #"); comment {
		rest = before
	}
	switch strings.ReplaceAll(strings.TrimSpace(rest), " ", "") {
	case "":
		return is, false
	case "[]", "null", "~":
		return is, true
	}
	return false, false
}

// look finds out how a file is gone on with. Of a file that ends in a line of
// ours only the beginning and the end are read: whoever wrote that line looked at
// the rest.
func look(f *os.File) (tail, error) {
	info, err := f.Stat()
	if err != nil {
		return tail{}, err
	}
	t := tail{size: info.Size()}
	if t.size > MaxFile {
		return t, fmt.Errorf("it is larger than %d MiB, which nobody reads: name another file", MaxFile>>20)
	}
	begin, err := read(f, 0, min(t.size, 4<<10))
	if err != nil {
		return t, err
	}
	if t.size < int64(len(header)) && strings.HasPrefix(header, string(begin)) {
		t.before, t.torn = header, t.size > 0 // nothing, or half a header
		return t, nil
	}
	last, err := lastLine(f, t.size)
	if err != nil {
		return t, err
	}
	if indent, ok := ours(last); ok && bytes.HasPrefix(begin, []byte(header)) {
		return t.behind(last, indent), nil
	}
	all, err := read(f, 0, t.size)
	if err != nil {
		return t, err
	}
	return t.behindForeign(all, last)
}

func read(f *os.File, at, size int64) ([]byte, error) {
	data := make([]byte, size)
	n, err := f.ReadAt(data, at)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return data[:n], err
}

// maxLine is about how long a line of ours can be, in bytes: a note of the
// largest size, escaped, with everything else.
const maxLine = 6*(maxNote+(maxKeys+5)*(maxValue+maxKey)) + 1<<10

// lastLine is the file's last line, with its end if it has one. Only as much is
// read as it takes.
func lastLine(f *os.File, size int64) ([]byte, error) {
	for want := int64(1 << 10); ; want *= 8 {
		want = min(want, size)
		data, err := read(f, size-want, want)
		if err != nil {
			return nil, err
		}
		body := bytes.TrimSuffix(data, []byte("\n"))
		if i := bytes.LastIndexByte(body, '\n'); i >= 0 {
			return data[i+1:], nil
		}
		if want == size || want > maxLine {
			return data, nil
		}
	}
}

// ours tells whether a line is one that Append wrote, or the beginning of one,
// and how it is indented.
func ours(line []byte) (indent string, ok bool) {
	body := bytes.TrimLeft(line, " ")
	indent = string(line[:len(line)-len(body)])
	const begin = `- {"item": "`
	if len(body) < len(begin) {
		return indent, len(body) > 0 && !bytes.HasSuffix(body, []byte("\n")) && strings.HasPrefix(begin, string(body))
	}
	return indent, bytes.HasPrefix(body, []byte(begin))
}

// behind goes on behind a last line of ours: half a one, which has no end yet, is
// taken out.
func (t tail) behind(last []byte, indent string) tail {
	t.at, t.before, t.indent = t.size, "", indent
	switch {
	case bytes.HasSuffix(last, []byte("\n")):
	case complete(last):
		t.before = "\n"
	default:
		t.at, t.torn = t.size-int64(len(last)), true
	}
	return t
}

// complete tells whether a line's flow mapping is closed, outside of any quotes,
// at the line's end.
func complete(line []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{':
			depth++
		case c == '}':
			depth--
		}
	}
	return depth == 0 && !quoted && bytes.HasSuffix(line, []byte("}"))
}

// behindForeign goes on behind a list that somebody else wrote. Where there is
// only the heading it is written anew, together with the line.
func (t tail) behindForeign(all, last []byte) (tail, error) {
	list := foreign{heading: -1}
	at := int64(0)
	for line := range bytes.Lines(all) {
		if !list.take(strings.TrimRight(string(line), " \t\r\n"), at) {
			return t, errForeign
		}
		at += int64(len(line))
	}
	switch indent, ok := ours(last); {
	case list.heading < 0:
		return t, errForeign
	case !list.listed:
		t.at, t.before = list.heading, header
	case ok && indent == list.indent:
		return t.behind(last, indent), nil
	default:
		t.at, t.indent = t.size, list.indent
		if !bytes.HasSuffix(all, []byte("\n")) {
			t.before = "\n"
		}
	}
	return t, nil
}

// foreign is what was seen of a file that somebody else began.
type foreign struct {
	heading int64 // where it stands; -1 while it has not come
	closed  bool  // an empty list stands in the heading
	listed  bool  // a list stands below it
	indent  string
}

// take looks at a line; false tells that the file is no block list alone.
func (l *foreign) take(text string, at int64) bool {
	body := strings.TrimLeft(text, " ")
	indent := text[:len(text)-len(body)]
	entry := body == "-" || strings.HasPrefix(body, "- ")
	switch {
	case body == "" || body[0] == '#':
		return true
	case l.heading < 0 && text == "---":
		return true
	case l.heading < 0:
		is, empty := heading(text)
		l.heading, l.closed = at, empty
		return is
	case l.closed:
		return false
	case !l.listed:
		l.listed, l.indent = true, indent
		return entry
	}
	return len(indent) > len(l.indent) || len(indent) == len(l.indent) && entry
}
