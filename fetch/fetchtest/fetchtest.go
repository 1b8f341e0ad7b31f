// Package fetchtest is what fetch asks, for tests: a Koji hub, its package
// server, Bodhi and dist-git behind one HTTP server that checks every request
// strictly and misbehaves when it is told to.
package fetchtest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/assay-ci/assay/fetch/xmlrpc"
)

// Server is everything that downloads come from. Fill its maps before it is
// asked; its methods may be called at any time.
type Server struct {
	*httptest.Server
	Builds  map[string]*Build   // by name-version-release
	Tags    map[string][]string // builds by tag, the newest last
	Updates map[string]Update   // by alias
	Files   map[string]string   // of dist-git: "rpms/hello/f42/hello.spec"

	t     testing.TB
	mu    sync.Mutex
	moods map[string][]Mood
	asked []string
}

// Build is a build as the hub knows it. ID 0 and State 0 are made good ones.
type Build struct {
	Name, Version, Release string
	ID                     int64
	State                  int64 // 1 for complete
	RPMs                   []RPM
	Logs                   map[string]string // build.log by architecture
}

// RPM is a package of a build.
type RPM struct {
	Name, Arch string
	Version    string // "" for the build's
	Data       []byte // as RPMFile makes it, or anything
	MD5        string // payloadhash; "" for what RPMSum says of Data
	Size       int64  // 0 for the length of Data
}

// Update is an update as Bodhi knows it: builds and their type, "rpm" for "".
type Update struct {
	Builds []string
	Type   string
}

// Mood is how one request is answered.
type Mood string

// The moods. One that is told in advance counts for one request.
const (
	Fine       Mood = ""
	Busy       Mood = "503"         // 503 with Retry-After: 0
	Broken     Mood = "500"         //
	Teapot     Mood = "418"         // an answer that is final
	Reset      Mood = "reset"       // half of the body, then the connection is reset
	Short      Mood = "short"       // a whole answer with half of the body
	WrongRange Mood = "wrong range" // a 206 of another part than was asked for
	NoRange    Mood = "no range"    // 206 without Content-Range
	Endless    Mood = "endless"     // a body that never ends
	Bent       Mood = "bent"        // a body of the right length with other bytes
	Packed     Mood = "packed"      // Content-Encoding: gzip
	Private    Mood = "redirect to a private address"
	Loop       Mood = "redirect to itself"
	Moved      Mood = "changed meanwhile"     // new bytes under a new ETag
	Weak       Mood = "without a validator"   // neither ETag nor Last-Modified
	Bomb       Mood = "entities in XML"       // for the hub
	Nonsense   Mood = "something else"        // neither XML nor JSON
	Deep       Mood = "nested without an end" // for the hub
	Fault      Mood = "fault"                 // of the hub: GenericError
	Offline    Mood = "offline"               // of the hub: ServerOffline
)

// New starts a server that the test's end stops.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{
		Builds: map[string]*Build{}, Tags: map[string][]string{}, Updates: map[string]Update{}, Files: map[string]string{},
		t: t, moods: map[string][]Mood{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /kojihub", s.hub)
	mux.HandleFunc("GET /packages/", s.packages)
	mux.HandleFunc("GET /bodhi/updates/{id}", s.update)
	mux.HandleFunc("GET /distgit/", s.distgit)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.wrong(w, r, "nothing is asked there")
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// Addresses as the configuration has them.
func (s *Server) Hub() string      { return s.URL + "/kojihub" }
func (s *Server) Packages() string { return s.URL + "/packages" }
func (s *Server) Bodhi() string    { return s.URL + "/bodhi" }
func (s *Server) DistGit() string  { return s.URL + "/distgit" }

// Add enters a build.
func (s *Server) Add(b Build) *Build {
	if b.ID == 0 {
		b.ID = int64(1000 + len(s.Builds))
	}
	if b.State == 0 {
		b.State = 1
	}
	s.Builds[b.Name+"-"+b.Version+"-"+b.Release] = &b
	return &b
}

// Turn has the next requests whose path ends with suffix answered in these moods,
// one each.
func (s *Server) Turn(suffix string, moods ...Mood) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moods[suffix] = append(s.moods[suffix], moods...)
}

// Asked lists what was asked so far: "GET /path", with the range if there was
// one, or "getBuild hello-1-1".
func (s *Server) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// Count is how many of Asked hold a text.
func (s *Server) Count(text string) int {
	n := 0
	for _, a := range s.Asked() {
		if strings.Contains(a, text) {
			n++
		}
	}
	return n
}

func (s *Server) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, fmt.Sprintf(format, args...))
}

// mood takes the next mood for a path.
func (s *Server) mood(path string) Mood {
	s.mu.Lock()
	defer s.mu.Unlock()
	for suffix, list := range s.moods {
		if len(list) > 0 && strings.HasSuffix(path, suffix) {
			s.moods[suffix] = list[1:]
			return list[0]
		}
	}
	return Fine
}

// wrong fails the test: a client of ours must not ask so.
func (s *Server) wrong(w http.ResponseWriter, r *http.Request, why string) {
	s.t.Errorf("%s %s: %s", r.Method, r.URL, why)
	http.Error(w, why, http.StatusBadRequest)
}

// strict checks what every request must be.
func (s *Server) strict(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case r.Header.Get("Accept-Encoding") != "identity":
		s.wrong(w, r, "Accept-Encoding is not identity")
	case r.URL.RawQuery != "":
		s.wrong(w, r, "has a query")
	case strings.Contains(r.URL.Path, "/../"), strings.Contains(r.URL.Path, "//"):
		s.wrong(w, r, "its path is not clean")
	case r.Header.Get("Range") != "" && r.Header.Get("If-Range") == "":
		s.wrong(w, r, "a range without If-Range: the parts may be of two files")
	default:
		return true
	}
	return false
}

// hub answers XML-RPC.
func (s *Server) hub(w http.ResponseWriter, r *http.Request) {
	if !s.strict(w, r) {
		return
	}
	if r.Header.Get("Content-Type") != "text/xml" {
		s.wrong(w, r, "Content-Type is not text/xml")
		return
	}
	method, params, err := xmlrpc.ReadCall(r.Body)
	if err != nil {
		s.wrong(w, r, err.Error())
		return
	}
	s.note("%s %v", method, params)
	if s.misbehave(w, r, s.mood("/kojihub"), nil) {
		return
	}
	result, err := s.call(method, params)
	if err != nil {
		s.wrong(w, r, err.Error())
		return
	}
	if f, ok := result.(fault); ok {
		writeFault(w, int64(f.code), f.text)
		return
	}
	body, err := xmlrpc.Response(result)
	if err != nil {
		s.wrong(w, r, err.Error())
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	_, _ = w.Write(body)
}

func writeFault(w http.ResponseWriter, code int64, text string) {
	w.Header().Set("Content-Type", "text/xml")
	fmt.Fprintf(w, `<?xml version='1.0'?><methodResponse><fault><value><struct><member><name>faultCode</name><value><int>%d</int></value></member>`+
		`<member><name>faultString</name><value><string>%s</string></value></member></struct></value></fault></methodResponse>`, code, text)
}
