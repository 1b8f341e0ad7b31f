package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-ci/assay/internal/filelock"
)

// mirror is a download server that answers as real ones do, and cuts
// connections and lies when told to.
type mirror struct {
	*httptest.Server
	mu     sync.Mutex
	files  map[string][]byte
	etag   string
	asked  []string // "GET /x", "GET /x from 100"
	faults []fault
}

// newMirror serves files by their paths. Each fault is for one request of an
// image; it tells whether it answered.
func newMirror(t *testing.T, files map[string][]byte, faults ...fault) *mirror {
	t.Helper()
	m := &mirror{files: files, etag: `"one"`, faults: faults}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	asked := r.Method + " " + r.URL.Path
	if from, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
		asked += " from " + strings.TrimSuffix(from, "-")
	}
	m.asked = append(m.asked, asked)
	data, ok := m.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", m.etag)
	if strings.HasSuffix(r.URL.Path, ".qcow2") && len(m.faults) > 0 {
		fault := m.faults[0]
		m.faults = m.faults[1:]
		if fault(w, r, data) {
			return
		}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

func (m *mirror) requests() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.asked...)
}

// cutAfter sends so many bytes of what was asked for and then cuts the connection.
func cutAfter(n int) fault {
	return func(w http.ResponseWriter, r *http.Request, data []byte) bool {
		from := 0
		if text, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
			from, _ = strconv.Atoi(strings.TrimSuffix(text, "-"))
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)-from))
		if from > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write(data[from:min(from+n, len(data))])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// says answers with a status.
func says(status int) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ []byte) bool { w.WriteHeader(status); return true }
}

func sha(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func atOnce(ctx context.Context, _ int) bool { return ctx.Err() == nil }

// cloudDisk is a real qcow2 disk of some size.
func cloudDisk(t *testing.T) []byte {
	t.Helper()
	content := bootable()
	for i := 4096; i < len(content); i += 7 {
		content[i] = byte(i * i >> 5)
	}
	data, err := os.ReadFile(qcow2Of(t, content))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// fault is an answer to one request of an image, in place of the right one.
type fault = func(w http.ResponseWriter, r *http.Request, data []byte) bool

// interrupted is a download that something happens to.
type interrupted struct {
	faults []fault
	before func(m *mirror) // between two processes
	want   []string        // what is asked for
}

func goingOn(disk []byte) map[string]interrupted {
	other := append([]byte(nil), disk...)
	other[len(other)-1]++
	third := strconv.Itoa(len(disk) / 3)
	return map[string]interrupted{
		"in one piece": {nil, nil, []string{"GET /x.qcow2"}},
		"cut once":     {faultsOf(cutAfter(len(disk) / 3)), nil, []string{"GET /x.qcow2", "GET /x.qcow2 from " + third}},
		"cut twice": {faultsOf(cutAfter(len(disk)/3), cutAfter(10)), nil, []string{
			"GET /x.qcow2", "GET /x.qcow2 from " + third, "GET /x.qcow2 from " + strconv.Itoa(len(disk)/3+10),
		}},
		"busy": {faultsOf(says(503), says(429)), nil, []string{"GET /x.qcow2", "GET /x.qcow2", "GET /x.qcow2"}},
		"changed meanwhile": {faultsOf(cutAfter(len(disk) / 3)), func(m *mirror) { m.etag = `"two"` }, []string{
			"GET /x.qcow2", "GET /x.qcow2 from " + third,
		}},
		"another part than asked for": {
			faultsOf(cutAfter(len(disk)/3), func(w http.ResponseWriter, _ *http.Request, data []byte) bool {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes 5-%d/%d", len(data)-1, len(data)))
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(data[5:])
				return true
			}), nil,
			[]string{"GET /x.qcow2", "GET /x.qcow2 from " + third, "GET /x.qcow2"},
		},
		"another length than before": {
			faultsOf(cutAfter(len(disk)/3), func(w http.ResponseWriter, _ *http.Request, data []byte) bool {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %s-%d/%d", third, len(data), len(data)+1))
				w.WriteHeader(http.StatusPartialContent)
				return true
			}), nil,
			[]string{"GET /x.qcow2", "GET /x.qcow2 from " + third, "GET /x.qcow2"},
		},
		"less than it had": {faultsOf(cutAfter(len(disk)/3), says(416)), nil, []string{
			"GET /x.qcow2", "GET /x.qcow2 from " + third, "GET /x.qcow2",
		}},
		"without a validator": {
			faultsOf(func(w http.ResponseWriter, r *http.Request, data []byte) bool {
				w.Header().Del("ETag")
				return cutAfter(100)(w, r, data)
			}), nil, []string{"GET /x.qcow2", "GET /x.qcow2"},
		},
		"of a weak validator": {
			faultsOf(func(w http.ResponseWriter, r *http.Request, data []byte) bool {
				w.Header().Set("ETag", `W/"one"`)
				return cutAfter(100)(w, r, data)
			}), nil, []string{"GET /x.qcow2", "GET /x.qcow2"},
		},
		"no length": {
			faultsOf(inChunks), nil, []string{"GET /x.qcow2"},
		},
		"other bytes in the second part": {
			faultsOf(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
				return cutAfter(len(other)-1)(w, r, append([]byte("X"), other[1:]...))
			}), func(*mirror) {},
			[]string{"GET /x.qcow2", "GET /x.qcow2 from " + strconv.Itoa(len(disk)-1), "GET /x.qcow2"},
		},
	}
}

func TestPullGoesOn(t *testing.T) {
	disk := cloudDisk(t)
	for name, test := range goingOn(disk) {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t, map[string][]byte{"/x.qcow2": disk}, test.faults...)
			s := Store{Root: t.TempDir()}
			ctx, cancel := context.WithCancel(t.Context())
			options := PullOptions{Name: "x", URL: m.URL + "/x.qcow2", SHA256: sha(disk), wait: atOnce}
			if test.before != nil { // the first process ends where it would have tried again
				options.wait = func(context.Context, int) bool { cancel(); return false }
				if _, err := s.Pull(ctx, options); !errors.Is(err, context.Canceled) {
					t.Fatalf("the first process: %v", err)
				}
				test.before(m)
				options.wait = atOnce
			}
			got, err := s.Pull(t.Context(), options)
			cancel()
			if err != nil {
				t.Fatalf("%v; asked %q", err, m.requests())
			}
			if asked := m.requests(); fmt.Sprint(asked) != fmt.Sprint(test.want) {
				t.Errorf("asked %q\nwant  %q", asked, test.want)
			}
			if got.Digest != sha(disk) || got.Boot != BootBIOS || got.Prepared || got.OriginSum != "sha256:"+sha(disk) {
				t.Errorf("got %+v", got)
			}
			if left, err := filepath.Glob(filepath.Join(s.Root, ".cache", "pull-*.part")); err != nil || len(left) > 0 {
				t.Errorf("left %v, %v", left, err)
			}
			onlyImages(t, s)
		})
	}
}

func faultsOf(list ...fault) []fault { return list }

// lie says that the file has so many bytes, and sends no more.
func lie(length int) fault {
	return func(w http.ResponseWriter, _ *http.Request, data []byte) bool {
		w.Header().Set("Content-Length", strconv.Itoa(length))
		_, _ = w.Write(data[:min(length, len(data))])
		return true
	}
}

// inChunks sends the file without its length.
func inChunks(w http.ResponseWriter, _ *http.Request, data []byte) bool {
	_ = http.NewResponseController(w).Flush()
	_, _ = w.Write(data)
	return true
}

func repeat(n int, one fault) []fault { return slices.Repeat([]fault{one}, n) }

func TestPullThatCannotBe(t *testing.T) {
	disk := cloudDisk(t)
	for name, test := range map[string]struct {
		faults []fault
		edit   func(o *PullOptions)
		want   string
	}{
		"other bytes":         {nil, func(o *PullOptions) { o.SHA256 = sha(nil) }, "not what was published"},
		"not there":           {nil, func(o *PullOptions) { o.URL += "x" }, "404"},
		"forbidden":           {faultsOf(says(403)), nil, "403"},
		"never ready":         {repeat(9, says(500)), nil, "gave up after 5 tries"},
		"cut again and again": {repeat(200, cutAfter(1)), nil, "gave up after 100 tries"},
		"too large":           {nil, func(o *PullOptions) { o.MaxBytes = 1000 }, "at most 1000"},
		"too large, untold": {
			faultsOf(inChunks), func(o *PullOptions) { o.MaxBytes = 1000 }, "more than the 1000",
		},
		"a shorter file": {repeat(9, lie(1<<10)), nil, "not what was published"},
		"no checksum":    {nil, func(o *PullOptions) { o.SHA256 = "" }, "--sha256"},
		"a bad checksum": {nil, func(o *PullOptions) { o.SHA256 = "12" }, "64 hexadecimal"},
		"another scheme": {nil, func(o *PullOptions) { o.URL = "file:///etc/shadow" }, "https://"},
		"no host":        {nil, func(o *PullOptions) { o.URL = "http:///x" }, "https://"},
		"redirected to file": {faultsOf(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			http.Redirect(w, r, "file:///etc/shadow", http.StatusFound)
			return true
		}), nil, "https:// or http://"},
		"both":    {nil, func(o *PullOptions) { o.Ref = "fedora:42" }, "say what"},
		"neither": {nil, func(o *PullOptions) { o.URL = "" }, "say what"},
		"a name":  {nil, func(o *PullOptions) { o.Name = "../x" }, "as an image's name"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t, map[string][]byte{"/x.qcow2": disk}, test.faults...)
			s := Store{Root: t.TempDir()}
			options := PullOptions{Name: "x", URL: m.URL + "/x.qcow2", SHA256: sha(disk), wait: atOnce}
			if test.edit != nil {
				test.edit(&options)
			}
			_, err := s.Pull(t.Context(), options)
			if err == nil || !strings.HasPrefix(err.Error(), "cannot ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if list, err := s.List(); len(list) > 0 || err != nil {
				t.Errorf("made %v, %v", list, err)
			}
			onlyImages(t, s)
		})
	}
}

// TestSilentServer has a server that begins and then says nothing more.
func TestSilentServer(t *testing.T) {
	gone := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("x"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		gone <- struct{}{}
	}))
	defer server.Close()
	meter := newMeter(nil)
	defer meter.close()
	d := newDownload(nil, server.URL, filepath.Join(t.TempDir(), "part"), 100, meter)
	d.idle = 20 * time.Millisecond
	d.wait = func(context.Context, int) bool { <-gone; return false }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	state := begun{Size: -1}
	if err := d.attempt(ctx, &state); err == nil || !strings.Contains(err.Error(), "sent nothing for") {
		t.Errorf("got %v", err)
	}
	<-gone
}

func TestPullTwice(t *testing.T) {
	disk := cloudDisk(t)
	sum := sha512.Sum512(disk)
	files := map[string][]byte{
		"/x.qcow2": disk, "/SHA512SUMS": fmt.Appendf(nil, "%x  x.qcow2\n%x  y.qcow2\n", sum, sha512.Sum512(nil)),
	}
	m := newMirror(t, files)
	s := Store{Root: t.TempDir()}
	options := PullOptions{Name: "x", URL: m.URL + "/x.qcow2?token=secret", Sums: m.URL + "/SHA512SUMS", wait: atOnce}
	first, err := s.Pull(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	if first.Origin != m.URL+"/x.qcow2" || first.OriginSum != fmt.Sprintf("sha512:%x", sum) {
		t.Errorf("got %+v", first)
	}
	again, err := s.Pull(t.Context(), options)
	if err != nil || again.Built != first.Built {
		t.Errorf("pulled again: %+v, %v", again, err)
	}
	if asked := m.requests(); fmt.Sprint(asked) != "[GET /SHA512SUMS GET /x.qcow2 GET /SHA512SUMS]" {
		t.Errorf("asked %q", asked)
	}
	// What was built here is not lost to one that is named alike.
	put(t, s, "debian-12", nil)
	options.Name = "debian-12"
	if _, err := s.Pull(t.Context(), options); err == nil || !strings.Contains(err.Error(), "--replace") {
		t.Errorf("in the place of one that was built: %v", err)
	}
}

// TestPullFromCatalogue has a mirror in Fedora's layout.
func TestPullFromCatalogue(t *testing.T) {
	disk := cloudDisk(t)
	const dir = "/mirror/releases/42/Cloud/x86_64/images/"
	listing := `<html><a href="../">up</a><a href="Fedora-Cloud-Base-Generic-42-1.1.x86_64.qcow2">old</a>
<a href="Fedora-Cloud-Base-Generic-42-1.10.x86_64.qcow2">new</a><a href="Fedora-Cloud-Base-Generic-42-1.9.x86_64.qcow2">x</a>
<a href="Fedora-Cloud-Base-UEFI-UKI-42-1.10.x86_64.qcow2">other</a><a href="Fedora-Cloud-42-1.10-x86_64-CHECKSUM">sums</a>`
	files := map[string][]byte{
		dir: []byte(listing),
		dir + "Fedora-Cloud-Base-Generic-42-1.10.x86_64.qcow2": disk,
		dir + "Fedora-Cloud-42-1.10-x86_64-CHECKSUM": fmt.Appendf(nil, `-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

# Fedora-Cloud-Base-Generic-42-1.9.x86_64.qcow2: 1 bytes
SHA256 (Fedora-Cloud-Base-Generic-42-1.9.x86_64.qcow2) = %s
# Fedora-Cloud-Base-Generic-42-1.10.x86_64.qcow2: %d bytes
SHA256 (Fedora-Cloud-Base-Generic-42-1.10.x86_64.qcow2) = %s
-----BEGIN PGP SIGNATURE-----
`, sha(nil), len(disk), sha(disk)),
	}
	m := newMirror(t, files)
	s := Store{Root: t.TempDir()}
	got, err := s.Pull(t.Context(), PullOptions{Ref: "fedora:42", Arch: "amd64", Mirror: m.URL + "/mirror", wait: atOnce})
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != NameFor("fedora", "42", "x86_64") || got.Distro != "fedora" || got.Release != "42" || got.Arch != "x86_64" ||
		got.Origin != m.URL+dir+"Fedora-Cloud-Base-Generic-42-1.10.x86_64.qcow2" {
		t.Errorf("got %+v", got)
	}
	_, err = s.Pull(t.Context(), PullOptions{Ref: "fedora:99", Arch: "x86_64", Mirror: m.URL + "/mirror", wait: atOnce})
	if err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a release that is not there: %v", err)
	}
}

// TestTwoPulls has two processes that want the same: one downloads.
func TestTwoPulls(t *testing.T) {
	disk := cloudDisk(t)
	m := newMirror(t, map[string][]byte{"/x.qcow2": disk})
	s := Store{Root: t.TempDir()}
	address := m.URL + "/x.qcow2"
	_, unlock, err := s.part(t.Context(), address, func() { t.Error("a free download was waited for") })
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	options := PullOptions{Name: "x", URL: address, SHA256: sha(disk), wait: atOnce, Progress: func(p Progress) {
		if p.Stage == "waiting for another download" {
			once.Do(unlock)
		}
	}}
	if _, err := s.Pull(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	once.Do(func() { t.Error("it did not wait") })
}

func TestForgetStaleDownloads(t *testing.T) {
	s := Store{Root: t.TempDir()}
	dir := filepath.Join(s.Root, ".cache")
	old := time.Now().Add(-2 * cacheFor)
	for _, name := range []string{"pull-old.part", "pull-held.part", "pull-new.part"} {
		path := save(t, filepath.Join(dir, name), []byte("x"))
		save(t, path+".json", []byte("{}"))
		if name != "pull-new.part" {
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	unlock, err := filelock.Try(filepath.Join(dir, "pull-held.part.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	_, release, err := s.part(t.Context(), "http://x/", func() {})
	if err != nil {
		t.Fatal(err)
	}
	release()
	left, err := filepath.Glob(filepath.Join(dir, "pull-*.part"))
	if want := []string{filepath.Join(dir, "pull-held.part"), filepath.Join(dir, "pull-new.part")}; err != nil || fmt.Sprint(left) != fmt.Sprint(want) {
		t.Errorf("left %v, %v", left, err)
	}
}

// TestSmallFilesStaySafe has a server of checksums that sends one elsewhere.
func TestSmallFilesStaySafe(t *testing.T) {
	plain := newMirror(t, map[string][]byte{"/sums": []byte("forged")})
	safe := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			_, _ = w.Write(make([]byte, maxSums+1))
			return
		}
		http.Redirect(w, r, plain.URL+"/sums", http.StatusFound)
	}))
	defer safe.Close()
	client := &small{client: safe.Client(), wait: func(context.Context, int) bool { return false }}
	if text, err := client.get(t.Context(), safe.URL+"/sums"); err == nil || !strings.Contains(err.Error(), "not safe") {
		t.Errorf("got %q, %v", text, err)
	}
	if _, err := client.get(t.Context(), safe.URL+"/long"); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a long one: %v", err)
	}
	if text, err := client.get(t.Context(), plain.URL+"/sums"); string(text) != "forged" || err != nil {
		t.Errorf("got %q, %v", text, err)
	}
}

func TestContentRange(t *testing.T) {
	for text, want := range map[string][3]any{
		"bytes 100-199/200": {int64(100), int64(200), true},
		"bytes 0-0/*":       {int64(0), int64(-1), true},
		"bytes 200-199/200": {int64(200), int64(200), false},
		"bytes -1-5/10":     {int64(0), int64(0), false},
		"bytes */200":       {int64(0), int64(0), false},
		"100-199/200":       {int64(0), int64(0), false},
		"":                  {int64(0), int64(0), false},
	} {
		start, total, ok := contentRange(text)
		if ok != want[2] || ok && (start != want[0] || total != want[1]) {
			t.Errorf("%q: %d, %d, %t", text, start, total, ok)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 100-199/200")
	f.Fuzz(func(t *testing.T, text string) {
		if start, total, ok := contentRange(text); ok && (start < 0 || total >= 0 && start >= total) {
			t.Errorf("%q: %d of %d", text, start, total)
		}
	})
}
