package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"path"

	"github.com/gorilla/mux"

	"github.com/assay-ci/assay"
)

//go:embed templates/*.html static/*
var embedded embed.FS

// assets are the static files by the name they are served under: a hash of
// their content, so that a browser may keep them for ever.
type assets struct {
	files       map[string]asset
	style, icon string // addresses
}

type asset struct {
	ctype string
	data  []byte
}

func loadAssets() (assets, error) {
	a := assets{files: map[string]asset{}}
	style, err := a.add("static/style.css", "text/css; charset=utf-8")
	if err != nil {
		return a, err
	}
	icon, err := a.add("static/icon.svg", "image/svg+xml")
	a.style, a.icon = style, icon
	return a, err
}

func (a assets) add(name, ctype string) (address string, err error) {
	data, err := embedded.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("cannot read the embedded file %s: %v", name, err)
	}
	sum := sha256.Sum256(data)
	file := hex.EncodeToString(sum[:8]) + path.Ext(name)
	a.files[file] = asset{ctype, data}
	return "/static/" + file, nil
}

func (s *server) static(r *http.Request) (response, error) {
	a, ok := s.assets.files[mux.Vars(r)["file"]]
	if !ok {
		return nil, assay.ErrNotFound
	}
	return body{http.StatusOK, a.ctype, "public, max-age=31536000, immutable", a.data}, nil
}

// pages are the parsed templates by name. Each is the layout with one page in it.
type pages map[string]*template.Template

func loadPages() (pages, error) {
	layout, err := template.New("layout.html").ParseFS(embedded, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, fmt.Errorf("cannot parse the page layout: %v", err)
	}
	ps := pages{}
	for _, name := range []string{"front", "package", "execution", "log", "event", "events", "message"} {
		t, err := layout.Clone()
		if err == nil {
			t, err = t.ParseFS(embedded, "templates/"+name+".html")
		}
		if err != nil {
			return nil, fmt.Errorf("cannot parse the page %s: %v", name, err)
		}
		ps[name] = t
	}
	return ps, nil
}

func (ps pages) render(w io.Writer, p page) error {
	t, ok := ps[p.Template]
	if !ok {
		return fmt.Errorf("cannot render %q: there is no such page", p.Template)
	}
	return t.ExecuteTemplate(w, "layout.html", p)
}
