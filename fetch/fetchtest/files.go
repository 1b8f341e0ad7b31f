package fetchtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// packages serves NAME/VERSION/RELEASE/ARCH/FILE and data/logs/ARCH/build.log.
func (s *Server) packages(w http.ResponseWriter, r *http.Request) {
	data, ok := s.packageFile(strings.TrimPrefix(r.URL.Path, "/packages/"))
	s.serve(w, r, data, ok)
}

func (s *Server) packageFile(path string) ([]byte, bool) {
	e := strings.Split(path, "/")
	if len(e) < 5 {
		return nil, false
	}
	b := s.Builds[e[0]+"-"+e[1]+"-"+e[2]]
	if b == nil {
		return nil, false
	}
	if len(e) == 7 && e[3] == "data" && e[4] == "logs" && e[6] == "build.log" {
		log, ok := b.Logs[e[5]]
		return []byte(log), ok
	}
	for _, rpm := range b.RPMs {
		file := rpm.Name + "-" + rpm.version(b) + "-" + b.Release + "." + rpm.Arch + ".rpm"
		if len(e) == 5 && e[3] == rpm.Arch && e[4] == file {
			return rpm.Data, true
		}
	}
	return nil, false
}

// distgit serves NAMESPACE/PACKAGE/raw/REF/f/PATH.
func (s *Server) distgit(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/distgit/")
	repo, rest, ok := strings.Cut(path, "/raw/")
	ref, file, ok2 := strings.Cut(rest, "/f/")
	if !ok || !ok2 || strings.Count(repo, "/") != 1 {
		s.wrong(w, r, "it is no raw address of dist-git")
		return
	}
	data, there := s.Files[repo+"/"+ref+"/"+file]
	s.serve(w, r, []byte(data), there)
}

// serve answers with a file, or as its mood is.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, data []byte, ok bool) {
	if !s.strict(w, r) {
		return
	}
	what := r.Method + " " + r.URL.Path
	if rng := r.Header.Get("Range"); rng != "" {
		what += " " + rng
	}
	s.note("%s", what)
	mood := s.mood(r.URL.Path)
	if s.misbehave(w, r, mood, data) {
		return
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	if mood == Moved {
		data = bytes.ToUpper(data)
	}
	if mood == Bent {
		data = bytes.Repeat([]byte("x"), len(data))
	}
	if mood != Weak {
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(data)))
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// update answers GET /updates/ID.
func (s *Server) update(w http.ResponseWriter, r *http.Request) {
	if !s.strict(w, r) {
		return
	}
	if r.Header.Get("Accept") != "application/json" {
		s.wrong(w, r, "does not ask for JSON: Bodhi would answer with a page")
		return
	}
	id := r.PathValue("id")
	s.note("GET /updates/%s", id)
	if s.misbehave(w, r, s.mood(r.URL.Path), nil) {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	u, ok := s.Updates[id]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"status": "error", "errors": [{"location": "url", "name": "id", "description": "Invalid update id"}]}`)
		return
	}
	kind := u.Type
	if kind == "" {
		kind = "rpm"
	}
	builds := []map[string]any{}
	for _, nvr := range u.Builds {
		builds = append(builds, map[string]any{"nvr": nvr, "type": kind, "epoch": 0, "signed": true})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"update": map[string]any{"alias": id, "builds": builds, "comments": []any{}}, "can_edit": false})
}

// misbehave answers as a mood says; false for one that only changes a file.
func (s *Server) misbehave(w http.ResponseWriter, r *http.Request, mood Mood, data []byte) bool {
	switch mood {
	case Busy:
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusServiceUnavailable)
	case Broken:
		w.WriteHeader(http.StatusInternalServerError)
	case Teapot:
		w.WriteHeader(http.StatusTeapot)
	case Private:
		http.Redirect(w, r, "http://10.0.0.1/secret", http.StatusFound)
	case Loop:
		http.Redirect(w, r, r.URL.Path, http.StatusFound)
	case Bomb:
		fmt.Fprint(w, bomb)
	case Nonsense:
		fmt.Fprint(w, "<html><body>log in first")
	case Deep:
		fmt.Fprint(w, "<methodResponse><params><param>"+strings.Repeat("<value><array><data>", 10_000))
	case Fault:
		writeFault(w, 1000, "permission denied")
	case Offline:
		writeFault(w, 1014, "database outage")
	default:
		return misbehaveFile(w, mood, data)
	}
	return true
}

// misbehaveFile is the part of it that has to do with bodies.
func misbehaveFile(w http.ResponseWriter, mood Mood, data []byte) bool {
	switch mood {
	case Reset:
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(data)))
		w.Header().Set("Content-Length", fmt.Sprint(max(len(data), 2)))
		_, _ = w.Write(data[:len(data)/2])
		flush(w)
		panic(http.ErrAbortHandler) // how net/http breaks a connection off
	case Short:
		_, _ = w.Write(data[:len(data)/2])
	case WrongRange:
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 1-%d/%d", len(data)-1, len(data)))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(data[1:])
	case NoRange:
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(data)
	case Packed:
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(data)
	case Endless:
		for chunk := make([]byte, 1<<20); ; {
			if _, err := w.Write(chunk); err != nil {
				return true
			}
		}
	default:
		return false
	}
	return true
}

func flush(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

// bomb is a document of a few lines that entities make gigabytes of.
const bomb = `<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>
<methodResponse><params><param><value><string>&c;&c;&c;</string></value></param></params></methodResponse>`
