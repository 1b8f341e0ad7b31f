package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// tries is how often a download that brings nothing new is begun again.
	tries = 5
	// mostTries ends one that brings a little every time.
	mostTries = 100
	// silence is how long a server may send nothing.
	silence = time.Minute
)

// download fetches one file. What has come is kept in part across cuts, errors
// and kill -9: the next try asks only for the rest, if the server says by its
// validator (ETag or Last-Modified, RFC 9110, 8.8) that it still has the same.
//
// Beside part lies part.json, which is written before the first byte of part and
// tells what these bytes are of. Without it they are nothing.
type download struct {
	client *http.Client
	url    string
	part   string
	limit  int64 // bytes that are taken at most
	meter  *meter
	idle   time.Duration
	// wait lets time pass before a try, and tells whether to go on.
	wait func(ctx context.Context, failed int) bool
}

// begun is part.json.
type begun struct {
	URL       string `json:"url"`
	Validator string `json:"validator"` // as If-Range takes it; "" for none: then nothing can go on
	Size      int64  `json:"size"`      // of the whole file; -1 when the server does not say
	Complete  bool   `json:"complete,omitempty"`
}

func newDownload(client *http.Client, address, part string, limit int64, meter *meter) *download {
	if client == nil {
		client = &http.Client{CheckRedirect: onlyWeb}
	}
	return &download{client: client, url: address, part: part, limit: limit, meter: meter, idle: silence, wait: backOff}
}

// backOff waits one second, two, four, and so on.
func backOff(ctx context.Context, failed int) bool {
	return pause(ctx, time.Second<<min(failed-1, 5))
}

// onlyWeb keeps a server from sending us anywhere but on the web, or in circles.
func onlyWeb(r *http.Request, via []*http.Request) error {
	if _, err := webAddress(r.URL.String()); err != nil {
		return permanent{err}
	}
	if len(via) >= 10 {
		return permanent{errors.New("it was redirected ten times")}
	}
	return nil
}

// permanent is an error that trying again does not mend.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// run fetches until the file is whole. Only one process at a time may: lockPart
// sees to that.
func (d *download) run(ctx context.Context) error {
	state := d.recall()
	if state.Complete {
		return nil
	}
	for failed, all := 0, 1; ; all++ {
		before := d.have()
		err := d.attempt(ctx, &state)
		if err == nil {
			state.Complete, state.Size = true, d.have()
			return d.remember(state)
		}
		var final permanent
		if errors.As(err, &final) {
			return err
		}
		if failed++; d.have() > before {
			failed = 1
		}
		if failed >= tries || all >= mostTries {
			return fmt.Errorf("%w: gave up after %d tries: the same command goes on from here (%d bytes)", err, all, d.have())
		}
		d.meter.stage("waiting to try again: " + err.Error())
		if !d.wait(ctx, failed) {
			return ctx.Err()
		}
	}
}

// have is how many bytes there are.
func (d *download) have() int64 {
	info, err := os.Stat(d.part)
	if err != nil {
		return 0
	}
	return info.Size()
}

// recall reads what an earlier process left; what cannot go on is left out.
func (d *download) recall() begun {
	var state begun
	text, err := os.ReadFile(d.part + ".json")
	if err != nil || json.Unmarshal(text, &state) != nil || state.URL != d.url {
		return begun{Size: -1}
	}
	if state.Complete && (state.Size < 0 || d.have() != state.Size) {
		return begun{Size: -1}
	}
	return state
}

func (d *download) remember(state begun) error {
	text, err := json.Marshal(state)
	if err != nil {
		return err
	}
	fresh := d.part + ".json.new"
	if err := os.WriteFile(fresh, text, 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, d.part+".json")
}

// attempt asks once, for the rest if there is a beginning, and takes what comes.
func (d *download) attempt(ctx context.Context, state *begun) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url, nil)
	if err != nil {
		return permanent{err}
	}
	request.Header.Set("Accept-Encoding", "identity") // a range is of what is stored
	have := d.have()
	if have > 0 && state.Validator != "" {
		request.Header.Set("Range", "bytes="+strconv.FormatInt(have, 10)+"-")
		request.Header.Set("If-Range", state.Validator)
	}
	watch := time.AfterFunc(d.idle, func() { cancel(fmt.Errorf("the server sent nothing for %s", d.idle)) })
	defer watch.Stop()
	response, err := d.client.Do(request)
	if err != nil {
		return plainError(ctx, err)
	}
	defer func() { _ = response.Body.Close() }() // what was not read is not wanted
	at, err := d.answer(response, have, state)
	if err != nil || at < 0 {
		return err
	}
	body := &alive{r: response.Body, beat: func() { watch.Reset(d.idle) }}
	return plainError(ctx, d.take(ctx, body, at, state.Size))
}

// plainError says what ended a request: our own watch, or ctx, or the network.
func plainError(ctx context.Context, err error) error {
	if err == nil || errors.As(err, new(permanent)) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil {
		if errors.Is(cause, context.Canceled) || errors.Is(cause, context.DeadlineExceeded) {
			return permanent{cause}
		}
		return cause
	}
	return withoutAddress(err)
}

// withoutAddress leaves out the address that the HTTP client puts before its
// errors: it may have a secret behind the question mark.
func withoutAddress(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// answer decides what the server's answer means: where its body belongs, or -1
// when there is nothing more to come. A new file, or one that cannot go on,
// empties what there was.
func (d *download) answer(response *http.Response, have int64, state *begun) (int64, error) {
	switch code := response.StatusCode; {
	case code == http.StatusPartialContent:
		start, total, ok := contentRange(response.Header.Get("Content-Range"))
		if ok && start == have && (state.Size < 0 || total < 0 || total == state.Size) {
			return have, nil
		}
		// It has something else now than what its validator was for.
		return 0, errors.Join(errors.New("the server sent another part than was asked for"), d.forget(state))
	case code == http.StatusRequestedRangeNotSatisfiable:
		if have == state.Size {
			return -1, nil
		}
		return 0, errors.Join(errors.New("the server has less than it had"), d.forget(state))
	case code == http.StatusOK:
		return 0, d.anew(response, state)
	case code == http.StatusTooManyRequests || code >= 500 || code == http.StatusRequestTimeout:
		return 0, fmt.Errorf("the server says %s", response.Status)
	default:
		return 0, permanent{fmt.Errorf("the server says %s to %s", response.Status, withoutSecrets(response.Request.URL.String()))}
	}
}

// anew begins a file, and writes down of what it is.
func (d *download) anew(response *http.Response, state *begun) error {
	*state = begun{URL: d.url, Validator: validator(response.Header), Size: response.ContentLength}
	if state.Size > d.limit {
		return permanent{fmt.Errorf("it has %d bytes: at most %d are taken", state.Size, d.limit)}
	}
	if err := d.roomFor(state.Size); err != nil {
		return permanent{err}
	}
	if err := d.forget(nil); err != nil {
		return permanent{err}
	}
	if err := d.remember(*state); err != nil {
		return permanent{err}
	}
	return nil
}

// roomFor tells now what the disk would say after an hour.
func (d *download) roomFor(size int64) error {
	var disk unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(d.part), &disk); err != nil {
		return nil // then writing will tell
	}
	free := int64(disk.Bavail) * disk.Bsize
	if size > free {
		return fmt.Errorf("it has %d bytes, and there are %d free below %s: make room, or set machines.images to another disk", size, free, filepath.Dir(d.part))
	}
	return nil
}

// forget empties what has come.
func (d *download) forget(state *begun) error {
	if state != nil {
		*state = begun{Size: -1}
	}
	err := os.Truncate(d.part, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// take writes a body from an offset on, and tells whether the file is whole.
func (d *download) take(ctx context.Context, body io.Reader, at, size int64) error {
	out, err := os.OpenFile(d.part, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return permanent{err}
	}
	if _, err := out.Seek(at, io.SeekStart); err != nil {
		return permanent{errors.Join(err, out.Close())}
	}
	d.meter.bytes("downloading", max(size, 0))
	d.meter.add(at)
	n, err := io.Copy(out, io.LimitReader(&counted{ctx: ctx, r: body, meter: d.meter}, d.limit-at+1))
	if synced := errors.Join(out.Sync(), out.Close()); synced != nil {
		return permanent{synced}
	}
	switch have := at + n; {
	case have > d.limit:
		return permanent{errors.Join(fmt.Errorf("it has more than the %d bytes that are taken", d.limit), d.forget(nil))}
	case err != nil:
		return err
	case size >= 0 && have < size:
		return fmt.Errorf("the server sent %d of %d bytes", have, size)
	case size >= 0 && have > size:
		return errors.Join(fmt.Errorf("the server sent %d bytes and had said %d", have, size), d.forget(nil))
	}
	return nil
}

// alive tells that there was something to read.
type alive struct {
	r    io.Reader
	beat func()
}

func (a *alive) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	if n > 0 {
		a.beat()
	}
	return n, err
}

// validator is what If-Range may be given: a strong ETag, else a date.
func validator(h http.Header) string {
	if tag := h.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") && len(tag) < 256 {
		return tag
	}
	if date := h.Get("Last-Modified"); len(date) < 64 {
		return date
	}
	return ""
}

// contentRange reads "bytes 100-199/200"; the total is -1 for "*".
func contentRange(text string) (start, total int64, ok bool) {
	text, ok = strings.CutPrefix(text, "bytes ")
	first, rest, dash := strings.Cut(text, "-")
	_, whole, slash := strings.Cut(rest, "/")
	if !ok || !dash || !slash {
		return 0, 0, false
	}
	start, err := strconv.ParseInt(first, 10, 64)
	if err != nil || start < 0 {
		return 0, 0, false
	}
	if whole == "*" {
		return start, -1, true
	}
	total, err = strconv.ParseInt(whole, 10, 64)
	return start, total, err == nil && total > start
}
