package web

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/mux"
	"github.com/rs/zerolog"

	"github.com/assay-ci/assay"
)

var (
	preview = flag.String("preview", "", "serve the made-up world of the tests on this address instead of testing")
	empty   = flag.Bool("empty", false, "with -preview: a server where nothing has run yet")
	update  = flag.Bool("update", false, "write the golden files anew")
)

// TestMain serves the pages to look at when it is asked to:
//
//	go test ./web -preview 127.0.0.1:8099
func TestMain(m *testing.M) {
	flag.Parse()
	if *preview == "" {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "web-preview-")
	if err == nil {
		w := &world{dir: dir, now: noon}
		if !*empty {
			fillWorld(w)
		}
		router := mux.NewRouter()
		if err = Register(router, w.options()); err == nil {
			err = http.ListenAndServe(*preview, router)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// noon is when every test takes place.
var noon = time.Date(2026, 11, 21, 17, 20, 0, 0, time.UTC)

// world is a store in memory and files in a directory.
type world struct {
	dir        string
	now        time.Time
	executions []assay.Execution // newest first
	steps      map[string][]assay.StepRun
	results    map[string][]assay.Result
	artifacts  map[string][]assay.Artifact
	events     map[string]assay.EventRecord
	sent       map[string]sent // by event
	repeats    map[string]int  // by event
	showBodies bool
	fail       error // of every call
	log        bytes.Buffer
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return &world{dir: t.TempDir(), now: noon}
}

func (w *world) options() Options {
	return Options{Store: w, Files: w, Inbox: w, ShowBodies: w.showBodies, Log: zerolog.New(&w.log), Version: "1.0-test", Now: func() time.Time { return w.now }}
}

func (w *world) router(t testing.TB) *mux.Router {
	t.Helper()
	router := mux.NewRouter()
	if err := Register(router, w.options()); err != nil {
		t.Fatal(err)
	}
	return router
}

func (w *world) Executions(_ context.Context, f assay.ExecutionFilter) ([]assay.Execution, error) {
	if w.fail != nil {
		return nil, w.fail
	}
	from := 0
	if f.Before != "" {
		from = slices.IndexFunc(w.executions, func(e assay.Execution) bool { return e.ID == f.Before }) + 1
		if from == 0 {
			return nil, assay.ErrNotFound
		}
	}
	var found []assay.Execution
	for _, e := range w.executions[from:] {
		if f.Package != "" && e.Package != f.Package || f.EventID != "" && e.EventID != f.EventID || f.State != "" && e.State != f.State {
			continue
		}
		if found = append(found, e); len(found) == f.Limit {
			break
		}
	}
	return found, nil
}

func (w *world) Execution(_ context.Context, id string) (assay.Execution, error) {
	for _, e := range w.executions {
		if e.ID == id && w.fail == nil {
			return e, nil
		}
	}
	if w.fail != nil {
		return assay.Execution{}, w.fail
	}
	return assay.Execution{}, fmt.Errorf("cannot find execution %s: %w", id, assay.ErrNotFound)
}

func (w *world) Steps(_ context.Context, id string) ([]assay.StepRun, error) {
	return w.steps[id], w.fail
}

func (w *world) Results(_ context.Context, id string) ([]assay.Result, error) {
	return w.results[id], w.fail
}

func (w *world) Artifacts(_ context.Context, id string) ([]assay.Artifact, error) {
	return w.artifacts[id], w.fail
}

func (w *world) Event(_ context.Context, id string) (assay.EventRecord, error) {
	if e, ok := w.events[id]; ok || w.fail != nil {
		return e, w.fail
	}
	return assay.EventRecord{}, assay.ErrNotFound
}

func (w *world) path(id, name string) string { return filepath.Join(w.dir, id, name) }

func (w *world) OpenLog(id string, attempt int) (*os.File, error) {
	return os.Open(w.path(id, fmt.Sprintf("log-%d", attempt)))
}

func (w *world) OpenArtifact(id, name string) (fs.File, error) {
	return os.DirFS(w.path(id, "artifacts")).Open(name)
}

func (w *world) OpenConsole(id string) (*os.File, error) { return os.Open(w.path(id, "console")) }

func (w *world) write(id, name, content string) {
	p := w.path(id, name)
	err := os.MkdirAll(filepath.Dir(p), 0o700)
	if err == nil {
		err = os.WriteFile(p, []byte(content), 0o600)
	}
	if err != nil {
		panic(err)
	}
}

func (w *world) artifact(id, name, content string) {
	w.write(id, "artifacts/"+name, content)
	w.artifacts[id] = append(w.artifacts[id], assay.Artifact{Path: name, Size: int64(len(content))})
}

// get asks the router for one address.
func get(t testing.TB, h http.Handler, target string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	return request(t, h, http.MethodGet, target, header...)
}

func request(t testing.TB, h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func wantStatus(t testing.TB, w *httptest.ResponseRecorder, status int) string {
	t.Helper()
	b, _ := io.ReadAll(w.Body)
	if w.Code != status {
		t.Fatalf("status %d, want %d; body:\n%s", w.Code, status, clip(string(b), 2000))
	}
	return string(b)
}

func wantContains(t testing.TB, page string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(page, p) {
			t.Errorf("the page lacks %q", p)
		}
	}
	if t.Failed() {
		t.Logf("page:\n%s", clip(page, 6000))
	}
}

// Identifiers of the made-up world.
const (
	idFailed  = "5b0c2a34-9a53-4f7e-8a6e-0c1f3a1d0001"
	idPassed  = "5b0c2a34-9a53-4f7e-8a6e-0c1f3a1d0002"
	idRunning = "5b0c2a34-9a53-4f7e-8a6e-0c1f3a1d0003"
	idQueued  = "5b0c2a34-9a53-4f7e-8a6e-0c1f3a1d0004"
	idCrashed = "5b0c2a34-9a53-4f7e-8a6e-0c1f3a1d0005"
	idErrored = "5b0c2a34-9a53-4f7e-8a6e-0c1f3a1d0006"
	idBig     = "5b0c2a34-9a53-4f7e-8a6e-0c1f3a1d0007"

	eventBuild   = "e0000000-0000-4000-8000-000000000001"
	eventIgnored = "e0000000-0000-4000-8000-000000000002"
	eventNew     = "e0000000-0000-4000-8000-000000000003"
	eventFailed  = "e0000000-0000-4000-8000-000000000004"

	goodCommit = "8c1f0e7d5b3a29184756abcdef0123456789abcd"
	badCommit  = "1d2e3f405162738495a6b7c8d9e0f1a2b3c4d5e6"
	checksSHA  = "00aa11bb22cc33dd44ee55ff66778899aabbccdd"
)
