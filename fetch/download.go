package fetch

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// download brings one file onto the disk, going on where an earlier try or an
// earlier process stopped. Whoever runs it holds the entry's lock.
type download struct {
	web            *Web
	want           Want
	part, partNote string
	old            note // of what is kept; zero for nothing
	progress       *progress
}

// run returns the note of the finished part, or unchanged when what is kept is
// what the server has.
func (d *download) run(ctx context.Context) (fresh note, unchanged bool, err error) {
	err = d.web.Retry(ctx, func(ctx context.Context) error {
		var err error
		fresh, unchanged, err = d.try(ctx)
		return err
	})
	if err != nil {
		return note{}, false, fmt.Errorf("cannot download %s: %w", shown(d.want.URL), err)
	}
	return fresh, unchanged, nil
}

func (d *download) try(ctx context.Context) (note, bool, error) {
	known, have := d.half()
	resp, err := d.web.open(ctx, http.MethodGet, d.want.URL, d.header(known, have), nil)
	if err != nil {
		return note{}, false, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotModified:
		if d.old.SHA256 == "" || have > 0 {
			return note{}, false, Senseless("the server says that nothing has changed, which nobody asked")
		}
		return d.old, true, nil
	case http.StatusPartialContent:
		if err := rangeFits(resp.Header.Get("Content-Range"), have); err != nil {
			return note{}, false, errors.Join(err, d.discard())
		}
	case http.StatusRequestedRangeNotSatisfiable:
		return note{}, false, errors.Join(errors.New("the server has less than it had"), d.discard())
	default:
		if err := verdictOf(resp); err != nil {
			return note{}, false, err
		}
		have, known = 0, noteOf(d.want.URL, resp.Header)
		if err := errors.Join(d.discard(), writeNote(d.partNote, known)); err != nil {
			return note{}, false, err
		}
	}
	fresh, err := d.save(resp, have, known)
	return fresh, false, err
}

// half is what is there of an earlier try; nothing when nobody can tell whether
// the server still has the same.
func (d *download) half() (note, int64) {
	known, ok := readNote(d.partNote, d.want.URL)
	info, err := os.Stat(d.part)
	if !ok || err != nil || validator(known) == "" {
		return note{}, 0
	}
	return known, info.Size()
}

// validator is what If-Range may hold: a strong entity tag, or a date (RFC 9110,
// 13.1.5).
func validator(n note) string {
	if n.ETag != "" && !strings.HasPrefix(n.ETag, "W/") {
		return n.ETag
	}
	return n.Modified
}

// header asks for the rest of what is half there, or else for what is newer than
// what is kept.
func (d *download) header(known note, have int64) http.Header {
	h := http.Header{}
	switch {
	case have > 0:
		h.Set("Range", fmt.Sprintf("bytes=%d-", have))
		h.Set("If-Range", validator(known))
	case d.old.ETag != "":
		h.Set("If-None-Match", d.old.ETag)
	case d.old.Modified != "":
		h.Set("If-Modified-Since", d.old.Modified)
	}
	return h
}

func (d *download) discard() error { return errors.Join(forget(d.part), forget(d.partNote)) }

// contentRange is the one form that a 206 to "bytes=N-" has (RFC 9110, 14.4).
var contentRange = regexp.MustCompile(`^bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)$`)

func rangeFits(header string, have int64) error {
	m := contentRange.FindStringSubmatch(header)
	if m == nil || have == 0 {
		return fmt.Errorf("the server answered with the range %s, which was not asked for", shown(cut(header, 80)))
	}
	if start, _ := strconv.ParseInt(m[1], 10, 64); start != have {
		return fmt.Errorf("the server sends from byte %d on, asked for %d", start, have)
	}
	return nil
}

// save appends the body to the part and looks at the whole.
func (d *download) save(resp *http.Response, have int64, known note) (note, error) {
	total := int64(0)
	if resp.ContentLength >= 0 {
		total = have + resp.ContentLength
	}
	if d.want.Max > 0 && max(total, d.want.Size) > d.want.Max {
		return note{}, errors.Join(tooLarge(d.want.Max), d.discard())
	}
	f, err := os.OpenFile(d.part, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return note{}, fmt.Errorf("cannot write into the download cache: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(have, io.SeekStart); err != nil {
		return note{}, fmt.Errorf("cannot write into the download cache: %w", err)
	}
	n, err := d.copy(f, resp.Body, have, total)
	if err != nil {
		if errors.Is(err, errTooLarge) {
			err = errors.Join(tooLarge(d.want.Max), d.discard())
		}
		return note{}, err
	}
	return d.finish(f, n, total, known)
}

// errTooLarge ends the copying of what has no end.
var errTooLarge = errors.New("too large")

func tooLarge(limit int64) error {
	return Refuse("it is larger than the limit of %s", size(limit))
}

// copy writes the body behind have and returns how long the file is then.
func (d *download) copy(f io.Writer, body io.Reader, have, total int64) (int64, error) {
	buf := make([]byte, 128<<10)
	for at := have; ; {
		n, err := body.Read(buf)
		if at += int64(n); d.want.Max > 0 && at > d.want.Max {
			return at, errTooLarge
		}
		if _, werr := f.Write(buf[:n]); werr != nil {
			return at, fmt.Errorf("cannot write into the download cache: %w", werr)
		}
		d.progress.at(at, cmp.Or(total, d.want.Size, d.want.About))
		if err == io.EOF {
			return at, nil
		}
		if err != nil {
			return at, fmt.Errorf("broken off after %s: %w", size(at), err)
		}
	}
}

// finish proves that the part is whole; one that is not is thrown away, since
// there is no telling which bytes are wrong.
func (d *download) finish(f *os.File, n, total int64, known note) (note, error) {
	var err error
	switch {
	case total > 0 && n != total:
		err = fmt.Errorf("it has %d bytes, the server said %d", n, total)
	case d.want.Size > 0 && n != d.want.Size:
		err = fmt.Errorf("it has %d bytes, it was announced with %d", n, d.want.Size)
	case d.want.Check != nil:
		if _, err = f.Seek(0, io.SeekStart); err == nil {
			err = d.want.Check(f)
		}
	}
	if err != nil {
		return note{}, errors.Join(err, d.discard())
	}
	sum := sha256.New()
	if _, err = f.Seek(0, io.SeekStart); err == nil {
		_, err = io.Copy(sum, f)
	}
	if err = errors.Join(err, f.Truncate(n), f.Sync()); err != nil {
		return note{}, fmt.Errorf("cannot keep a download: %w", err)
	}
	known.Size, known.SHA256 = n, hex.EncodeToString(sum.Sum(nil))
	return known, nil
}
