package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// mirror is an upstream whose requests are counted.
type mirror struct {
	*httptest.Server
	mu    sync.Mutex
	asked []*http.Request
}

func newMirror(t *testing.T, handler http.HandlerFunc) *mirror {
	t.Helper()
	m := &mirror{}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		m.asked = append(m.asked, r)
		m.mu.Unlock()
		handler(w, r)
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *mirror) requests() []*http.Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]*http.Request{}, m.asked...)
}

// guest is a program that knows the proxy.
type guest struct {
	t       *testing.T
	proxy   *Proxy
	address string
	client  *http.Client
	entries chan Entry
	stop    func() error // ends Serve and gives its error
}

// start serves a proxy on loopback until the test ends.
func start(t *testing.T, options Options) *guest {
	t.Helper()
	g := &guest{t: t, entries: make(chan Entry, 1000)}
	options.Log = func(e Entry) { g.entries <- e }
	var err error
	if g.proxy, err = New(options); err != nil {
		t.Fatal(err)
	}
	g.serve()
	return g
}

func (g *guest) serve() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	g.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.WithoutCancel(g.t.Context()))
	done := make(chan error, 1)
	go func() { done <- g.proxy.Serve(ctx, listener) }()
	g.stop = sync.OnceValue(func() error {
		cancel()
		defer func() { _ = g.proxy.Close() }()
		return <-done
	})
	transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: g.address}), DisableCompression: true}
	g.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	g.t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := g.stop(); err != nil {
			g.t.Error(err)
		}
	})
}

// get asks for an address and reads all of the answer.
func (g *guest) get(address string, header ...string) (*http.Response, string) {
	g.t.Helper()
	resp, body, err := g.try(address, header...)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp, body
}

func (g *guest) try(address string, header ...string) (*http.Response, string, error) {
	request, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return nil, "", err
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	resp, err := g.client.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// say sends bytes as they are and reads until the proxy closes.
func (g *guest) say(text string) string {
	g.t.Helper()
	conn, err := net.Dial("tcp", g.address)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, text) // the proxy may have had enough before
	got, _ := io.ReadAll(conn)        // a reset is an end, too
	return string(got)
}

// wantEntry waits for what is told of the next request.
func (g *guest) wantEntry(status int, from, reason string) Entry {
	g.t.Helper()
	e := <-g.entries
	if e.Status != status || e.From != from || !strings.Contains(e.Reason, reason) || (reason == "") != (e.Reason == "") {
		g.t.Errorf("the log is told %+v, want status %d from %s, %q", e, status, from, reason)
	}
	return e
}

// content is what a mirror has at a path.
func content(path string) string { return strings.Repeat(path+"\n", 10_000) }

// serveContent serves content with what a cache needs to know.
func serveContent(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"1"`)
	w.Header().Set("Content-Type", "application/x-package")
	http.ServeContent(w, r, "", time.Unix(1700000000, 0), strings.NewReader(content(r.URL.Path)))
}

func TestPackagesAreFetchedOnce(t *testing.T) {
	m := newMirror(t, serveContent)
	g := start(t, Options{Allow: rules(t, m.URL+"/debian/"), Cache: t.TempDir()})
	address := m.URL + "/debian/pool/h/hello_1%2b1_all.deb"
	want := content("/debian/pool/h/hello_1+1_all.deb")
	for i, from := range []string{FromUpstream, FromCache, FromCache} {
		resp, body := g.get(address)
		if body != want || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-package" || resp.Header.Get("ETag") != `"1"` {
			t.Errorf("%d: %d bytes, %d, %v", i, len(body), resp.StatusCode, resp.Header)
		}
		if e := g.wantEntry(200, from, ""); e.Bytes != int64(len(want)) || e.Method != "GET" || !strings.HasSuffix(e.URL, "_all.deb") {
			t.Errorf("%d: %+v", i, e)
		}
	}
	if resp, body := g.get(address, "Range", "bytes=5-14"); resp.StatusCode != 206 || body != want[5:15] || resp.Header.Get("Content-Range") != fmt.Sprintf("bytes 5-14/%d", len(want)) {
		t.Errorf("a range is answered with %d %q %v", resp.StatusCode, body, resp.Header)
	}
	if resp, body := g.get(address, "Range", "bytes=-3", "If-Range", `"2"`); resp.StatusCode != 200 || body != want {
		t.Errorf("a range of what changed is answered with %d", resp.StatusCode)
	}
	if resp, _ := g.get(address, "Range", "bytes=9999999-"); resp.StatusCode != 416 {
		t.Errorf("a range beyond the end is answered with %d", resp.StatusCode)
	}
	if resp, body := g.get(address, "If-None-Match", `"1"`); resp.StatusCode != 304 || body != "" {
		t.Errorf("what the guest has is answered with %d", resp.StatusCode)
	}
	if n := len(m.requests()); n != 1 {
		t.Errorf("the mirror was asked %d times", n)
	}
}

// TestTwentyGuestsOneDownload has all of them ask before the mirror answers.
func TestTwentyGuestsOneDownload(t *testing.T) {
	const guests = 20
	release := make(chan struct{})
	m := newMirror(t, func(w http.ResponseWriter, r *http.Request) {
		body := content(r.URL.Path)
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = io.WriteString(w, body[:100])
		_ = http.NewResponseController(w).Flush()
		<-release
		_, _ = io.WriteString(w, body[100:])
	})
	g := start(t, Options{Allow: rules(t, m.URL), Cache: t.TempDir()})
	var all sync.WaitGroup
	begun := make(chan struct{}, guests)
	for range guests {
		all.Go(func() {
			resp, err := g.client.Get(m.URL + "/x.rpm")
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = resp.Body.Close() }()
			begin := make([]byte, 100) // comes before the mirror has sent all
			_, err = io.ReadFull(resp.Body, begin)
			begun <- struct{}{}
			rest, rerr := io.ReadAll(resp.Body)
			if err != nil || rerr != nil || string(begin)+string(rest) != content("/x.rpm") {
				t.Errorf("%d bytes, %v, %v", len(begin)+len(rest), err, rerr)
			}
		})
	}
	for range guests {
		<-begun
	}
	close(release)
	all.Wait()
	from := map[string]int{}
	for range guests {
		from[(<-g.entries).From]++
	}
	if n := len(m.requests()); n != 1 || from[FromUpstream] != 1 || from[FromShared] != guests-1 {
		t.Errorf("the mirror was asked %d times; served from %v", n, from)
	}
}

func TestIndicesAreConfirmed(t *testing.T) {
	var version atomic.Int64
	m := newMirror(t, func(w http.ResponseWriter, r *http.Request) {
		now := version.Load()
		if now < 0 {
			http.Error(w, "out of order", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, now))
		http.ServeContent(w, r, "", time.Unix(1700000000+now, 0), strings.NewReader(fmt.Sprint("index ", now)))
	})
	g := start(t, Options{Allow: rules(t, m.URL), Cache: t.TempDir()})
	for _, c := range []struct {
		version int64
		status  int
		body    string
		from    string
		match   string // what the mirror is asked with
	}{
		{0, 200, "index 0", FromUpstream, ""},
		{0, 200, "index 0", FromCache, `"0"`},
		{1, 200, "index 1", FromUpstream, `"0"`},
		{1, 200, "index 1", FromCache, `"1"`},
		{-1, 503, "out of order\n", FromUpstream, `"1"`}, // never what is old
		{1, 200, "index 1", FromCache, `"1"`},
	} {
		version.Store(c.version)
		resp, body := g.get(m.URL + "/dists/x/InRelease")
		asked := m.requests()
		if got := asked[len(asked)-1].Header.Get("If-None-Match"); body != c.body || resp.StatusCode != c.status || got != c.match {
			t.Errorf("version %d: %d %q, the mirror was asked for %s", c.version, resp.StatusCode, body, got)
		}
		g.wantEntry(c.status, c.from, "")
	}
	if resp, _ := g.get(m.URL+"/dists/x/InRelease", "If-None-Match", `"1"`); resp.StatusCode != 304 {
		t.Errorf("what the guest has is answered with %d", resp.StatusCode)
	}
	m.Close()
	if resp, body := g.get(m.URL + "/dists/x/InRelease"); resp.StatusCode != 502 || !strings.Contains(body, "cannot reach the mirror") {
		t.Errorf("without a mirror: %d %q", resp.StatusCode, body)
	}
}

// TestFormsOfAnIndex are kept apart: pip asks for JSON, a browser does not.
func TestFormsOfAnIndex(t *testing.T) {
	m := newMirror(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"`+r.Header.Get("Accept")+`"`)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(r.Header.Get("Accept")))
	})
	g := start(t, Options{Allow: rules(t, m.URL), Cache: t.TempDir()})
	for range 2 {
		for _, accept := range []string{"application/json", "text/html"} {
			if _, body := g.get(m.URL+"/simple/x/", "Accept", accept); body != accept {
				t.Errorf("asked for %s, got %s", accept, body)
			}
		}
	}
}

func TestWhatIsNotKept(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"an error": func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
		"an unknown size": func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, content(r.URL.Path))
		},
		"what must not be": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-store")
			serveContent(w, r)
		},
		"what is too large":  serveContent,
		"a redirect is kept": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/y.deb", http.StatusFound) },
	} {
		t.Run(name, func(t *testing.T) {
			options := Options{Cache: t.TempDir()}
			if name == "what is too large" {
				options.MaxBytes = 64 << 10
			}
			m := newMirror(t, handler)
			options.Allow = rules(t, m.URL)
			g := start(t, options)
			first, body := g.get(m.URL + "/x.deb")
			again, same := g.get(m.URL + "/x.deb")
			if n := len(m.requests()); n != 2 || first.StatusCode != again.StatusCode || body != same {
				t.Errorf("the mirror was asked %d times; answers %d and %d", n, first.StatusCode, again.StatusCode)
			}
			files, err := g.proxy.store.files()
			if err != nil || len(files) > 0 {
				t.Errorf("left on the disk: %v, %v", files, err)
			}
		})
	}
}

func TestWithoutCache(t *testing.T) {
	m := newMirror(t, serveContent)
	g := start(t, Options{Allow: rules(t, m.URL)})
	for range 2 {
		if resp, body := g.get(m.URL+"/x.deb", "Range", "bytes=0-2"); resp.StatusCode != 206 || body != "/x." {
			t.Errorf("%d %q", resp.StatusCode, body)
		}
		g.wantEntry(206, FromUpstream, "")
	}
	resp, err := g.client.Head(m.URL + "/x.deb")
	if err != nil || resp.ContentLength != int64(len(content("/x.deb"))) {
		t.Errorf("%v, %v", resp, err)
	}
}

// TestHeaders looks at what crosses the proxy.
func TestHeaders(t *testing.T) {
	m := newMirror(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set("X-Secret", "x")
		w.Header().Set("Last-Modified", strings.Repeat("long", 1000))
		w.Header().Set("Proxy-Authenticate", "Basic")
		_, _ = io.WriteString(w, "body")
	})
	g := start(t, Options{Allow: rules(t, m.URL)})
	resp, _ := g.get(m.URL+"/x", "Cookie", "a=b", "Authorization", "Basic eDp5", "X-Forwarded-For", "10.0.0.1", "User-Agent", "spy", "Accept", "text/*")
	for _, name := range []string{"Set-Cookie", "X-Secret", "Last-Modified", "Proxy-Authenticate"} {
		if got := resp.Header.Get(name); got != "" {
			t.Errorf("the guest gets %s: %.60s", name, got)
		}
	}
	asked := m.requests()[0].Header
	if len(asked) > 3 || asked.Get("Accept") != "text/*" || asked.Get("User-Agent") != "assay" {
		t.Errorf("the mirror gets %v", asked)
	}
}

func TestRefusalsAreToldToGuestAndLog(t *testing.T) {
	g := start(t, Options{Allow: rules(t, "http://mirror.example.org/debian/"), Setting: "a.setting"})
	resp, body := g.get("http://other.example.org/x.deb")
	if want := "refused http://other.example.org/x.deb: the host other.example.org is not in the runner's allow list: the setting a.setting allows more\n"; resp.StatusCode != 403 || body != want {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	if e := g.wantEntry(403, FromNobody, "other.example.org"); !e.Refused() {
		t.Error("the entry is not a refusal")
	}
	if _, _, err := g.try("https://other.example.org/x.deb"); err == nil || !strings.Contains(err.Error(), "Forbidden") {
		t.Errorf("CONNECT is answered with %v", err)
	}
	if e := g.wantEntry(403, FromNobody, "other.example.org"); e.Method != "CONNECT" || e.URL != "other.example.org:443" {
		t.Errorf("got %+v", e)
	}
}

func TestMirrorThatFails(t *testing.T) {
	stalled := make(chan struct{})
	m := newMirror(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		_, _ = io.WriteString(w, strings.Repeat("x", 5000))
		_ = http.NewResponseController(w).Flush()
		if strings.Contains(r.URL.Path, "stalls") {
			<-stalled
		}
	})
	defer close(stalled)
	for _, cache := range []string{"", t.TempDir()} {
		g := start(t, Options{Allow: rules(t, m.URL), Cache: cache, Idle: 500 * time.Millisecond})
		for _, path := range []string{"/breaks.deb", "/stalls.deb", "/breaks", "/stalls"} {
			_, body, err := g.try(m.URL + path)
			if err == nil || len(body) >= 100_000 {
				t.Errorf("cache %q, %s: %d bytes and no error", cache, path, len(body))
			}
			g.wantEntry(200, FromUpstream, "cannot hand on")
		}
		if cache == "" {
			continue
		}
		if files, err := g.proxy.store.files(); err != nil || len(files) > 0 || g.proxy.store.used != 0 {
			t.Errorf("left on the disk: %v, %v; %d bytes counted", files, err, g.proxy.store.used)
		}
	}
}

// TestGuestThatLeaves ends the download that nobody else wants.
func TestGuestThatLeaves(t *testing.T) {
	gone := make(chan struct{})
	m := newMirror(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		_, _ = io.WriteString(w, "begin")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	})
	g := start(t, Options{Allow: rules(t, m.URL), Cache: t.TempDir()})
	resp, err := g.client.Get(m.URL + "/x.deb")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	<-gone
	g.wantEntry(200, FromUpstream, "cannot hand on")
}

// TestServeEnds in the middle of everything.
func TestServeEnds(t *testing.T) {
	m := newMirror(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	g := start(t, Options{Allow: rules(t, m.URL, strings.Replace(m.URL, "http:", "https:", 1)), Cache: t.TempDir()})
	resp, err := g.client.Get(m.URL + "/x.deb")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	tunnel, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tunnel.Close() }()
	if _, err := fmt.Fprintf(tunnel, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", strings.TrimPrefix(m.URL, "http://")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(tunnel, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := g.stop(); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the guest takes what was cut for the whole")
	}
	if len(g.entries) != 2 {
		t.Errorf("%d requests were told of when Serve returned", len(g.entries))
	}
}

func TestServeTellsWhyTheListenerEnded(t *testing.T) {
	p, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Serve(t.Context(), brokenListener{}); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := p.Serve(t.Context(), l); err != nil {
		t.Errorf("a closed listener: %v", err)
	}
}

var errBroken = errors.New("the machine died")

type brokenListener struct{}

func (brokenListener) Accept() (net.Conn, error) { return nil, errBroken }
func (brokenListener) Close() error              { return nil }
func (brokenListener) Addr() net.Addr            { return &net.TCPAddr{} }

func TestLogsAreApart(t *testing.T) {
	m := newMirror(t, serveContent)
	g := start(t, Options{Allow: rules(t, m.URL), Cache: t.TempDir()})
	other := &guest{t: t, entries: make(chan Entry, 10)}
	other.proxy = g.proxy.WithLog(func(e Entry) { other.entries <- e })
	other.serve()
	g.get(m.URL + "/x.deb")
	g.wantEntry(200, FromUpstream, "") // the file is kept when its guest has been told of
	other.get(m.URL + "/x.deb")
	other.wantEntry(200, FromCache, "")
	if len(g.entries)+len(other.entries) > 0 {
		t.Error("one request is told of twice")
	}
}
