package main

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
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"
	"github.com/rs/zerolog"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/results"
	"github.com/assay-ci/assay/web"
)

// scpLike is user@host:path.
var scpLike = regexp.MustCompile(`^[A-Za-z0-9._][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[^:-][^:]*$`)

// serverExecution is what a replay reads of /executions/ID.json; see package web.
type serverExecution struct {
	ID      string `json:"id"`
	Package string `json:"package"`
	Check   string `json:"check"`
	Item    string `json:"item"`
	Type    string `json:"type"`
	Arch    string `json:"arch"`
	Variant string `json:"variant"`
	State   string `json:"state"`
	Verdict string `json:"verdict"`
	Checks  struct {
		Repo   string `json:"repo"`
		Commit string `json:"commit"`
		Path   string `json:"path"`
	} `json:"checks"`
	Source struct {
		Repo   string `json:"repo"`
		Commit string `json:"commit"`
	} `json:"source"`
	Target struct {
		Repo        string `json:"repo"`
		PullRequest int    `json:"pull_request"`
	} `json:"target"`
	Builds []string `json:"builds"`
	Needs  []struct {
		Check     string `json:"check"`
		Execution string `json:"execution"`
		Label     string `json:"label"`
	} `json:"needs"`

	results []runResult
	image   string // that it booted, "" for none or unknown
	digest  string // the image's
}

// executionPart is one answer: results come in parts of a thousand.
type executionPart struct {
	Version   int             `json:"version"`
	Execution serverExecution `json:"execution"`
	Total     int             `json:"results_total"`
	Results   []runResult     `json:"results"`
}

// Bounds of what a server answers.
const (
	maxDocument = 64 << 20
	maxResults  = 200_000
	maxLogHead  = 1 << 20 // the image's line is among the first
)

// locate reads an execution's address, and keeps its UUID and its server.
func (o *fromOptions) locate() error {
	id := o.execution
	if base, rest, ok := strings.Cut(id, "/executions/"); ok {
		id = strings.TrimSuffix(rest, ".json")
		if o.server == "" && o.data == "" {
			o.server = base
		}
	}
	if _, err := uuid.Parse(id); err != nil {
		return &exitError{exitUsage, fmt.Errorf("cannot replay %q: an execution's name is a UUID, as its page says", shown(o.execution))}
	}
	o.execution = id
	return nil
}

// readExecution asks for everything that a replay needs to know.
func readExecution(ctx context.Context, o fromOptions) (*serverExecution, error) {
	ask, closeAsk, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	defer closeAsk()
	page := "/executions/" + o.execution
	x, err := askParts(ctx, ask, page)
	if err != nil {
		return nil, err
	}
	x.image, x.digest, err = askImage(ctx, ask, page)
	return x, err
}

func askParts(ctx context.Context, ask asker, page string) (*serverExecution, error) {
	var x *serverExecution
	for from := 0; ; {
		body, err := ask(ctx, fmt.Sprintf("%s.json?results=%d", page, from), maxDocument)
		if err != nil {
			return nil, err
		}
		var part executionPart
		if err := json.Unmarshal(body, &part); err != nil {
			return nil, fmt.Errorf("cannot read the server's answer: %w: is it an assay server?", err)
		}
		if part.Version != 1 {
			return nil, fmt.Errorf("cannot read version %d of the server's answer: use a newer assay", part.Version)
		}
		if x == nil {
			x = &part.Execution
		}
		x.results = append(x.results, part.Results...)
		if from = len(x.results); len(part.Results) == 0 || from >= part.Total || from > maxResults {
			return x, nil
		}
	}
}

// imageLine is what a machine says of itself in the log's beginning; see
// runner/libvirt.
var imageLine = regexp.MustCompile(`(?m)^\S+ 0 run boot: image ([A-Za-z0-9][A-Za-z0-9._+-]*), digest ([0-9a-f]{64})$`)

// askImage finds the image in the log. No log is no error: none may be left.
func askImage(ctx context.Context, ask asker, page string) (name, digest string, err error) {
	head, err := ask(ctx, page+"/log.txt", -maxLogHead)
	if errors.Is(err, assay.ErrNotFound) {
		return "", "", nil
	}
	if found := imageLine.FindSubmatch(head); found != nil {
		name, digest = string(found[1]), string(found[2])
	}
	return name, digest, err
}

// asker gets one page of a server. A limit below 0 asks for the beginning alone.
type asker func(ctx context.Context, page string, limit int64) ([]byte, error)

// open finds the server, or the data directory of one that does not run.
func (o fromOptions) open(ctx context.Context) (asker, func(), error) {
	if o.data == "" {
		u, err := url.Parse(o.server)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, nil, &exitError{exitUsage, fmt.Errorf("cannot ask the server %q: write http://HOST or https://HOST", shown(o.server))}
		}
		return askServer(strings.TrimRight(o.server, "/")), func() {}, nil
	}
	if text, err := os.ReadFile(filepath.Join(o.data, announcement)); err == nil {
		var at announced
		if err := json.Unmarshal(text, &at); err == nil && at.Listens != "" {
			return askServer(at.Listens), func() {}, nil
		}
	}
	return openData(ctx, o.data)
}

func askServer(server string) asker {
	client := &http.Client{Timeout: time.Minute}
	return func(ctx context.Context, page string, limit int64) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+page, nil)
		if err != nil {
			return nil, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, fmt.Errorf("cannot ask the server: %w", err)
		}
		defer resp.Body.Close()
		return readAnswer(resp.StatusCode, page, resp.Body, limit)
	}
}

func readAnswer(status int, page string, body io.Reader, limit int64) ([]byte, error) {
	switch status {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, fmt.Errorf("cannot find %s on the server: %w", page, assay.ErrNotFound)
	default:
		return nil, fmt.Errorf("cannot read %s: the server answered %d %s", page, status, http.StatusText(status))
	}
	most := max(limit, -limit)
	data, err := io.ReadAll(io.LimitReader(body, most+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", page, err)
	}
	if int64(len(data)) > most {
		if limit > 0 {
			return nil, fmt.Errorf("cannot read %s: the answer is larger than %d MiB", page, most>>20)
		}
		data = data[:most]
	}
	return data, nil
}

// openData serves the pages of a data directory to this process alone.
func openData(ctx context.Context, dir string) (asker, func(), error) {
	if _, err := os.Stat(filepath.Join(dir, "executions")); err != nil {
		return nil, nil, &exitError{exitUsage, fmt.Errorf("cannot use --data %s: it is no server's data directory", dir)}
	}
	store, err := results.Open(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	router := mux.NewRouter().UseEncodedPath()
	err = web.Register(router, web.Options{Store: store, Files: pageFiles{store.Files(), store}, Log: zerolog.Nop()})
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	ask := func(ctx context.Context, page string, limit int64) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
		if err != nil {
			return nil, err
		}
		w := &answer{header: http.Header{}, status: http.StatusOK, most: max(limit, -limit) + 1}
		router.ServeHTTP(w, req)
		return readAnswer(w.status, page, strings.NewReader(w.body.String()), limit)
	}
	return ask, func() { _ = store.Close() }, nil
}

// answer keeps the beginning of what a handler writes.
type answer struct {
	header http.Header
	status int
	most   int64
	body   strings.Builder
}

func (a *answer) Header() http.Header    { return a.header }
func (a *answer) WriteHeader(status int) { a.status = status }
func (a *answer) Write(p []byte) (int, error) {
	if room := a.most - int64(a.body.Len()); room < int64(len(p)) {
		a.body.Write(p[:max(0, room)])
		return int(max(0, room)), io.ErrShortWrite
	}
	return a.body.Write(p)
}

// takeImage has a virtual machine boot what the execution's booted.
func (o *runOptions) takeImage(e *env, x *serverExecution) error {
	if !o.vm || o.image != "" {
		return nil
	}
	if x.image == "" {
		fmt.Fprintln(e.err, "assay: the execution's log does not tell which image it ran on: the formula's is taken")
		return nil
	}
	all, err := images(config.Default()).List()
	if err != nil {
		return err
	}
	for _, img := range all {
		if img.Digest == x.digest {
			o.image = img.Name
			return nil
		}
	}
	return fmt.Errorf("cannot replay on the same image: none here has the digest %s of %s: copy it, or take another with --image NAME", x.digest, x.image)
}
