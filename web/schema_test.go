package web

import (
	"net/http"
	"testing"

	"github.com/gorilla/mux"
)

func TestSchema(t *testing.T) {
	w := newWorld(t)
	wantStatus(t, get(t, w.router(t), "/schema/formula.json"), http.StatusNotFound)

	o := w.options()
	o.Schema = []byte(`{"type":"object"}`)
	router := mux.NewRouter()
	if err := Register(router, o); err != nil {
		t.Fatal(err)
	}
	answer := get(t, router, "/schema/formula.json")
	if answer.Code != http.StatusOK || answer.Body.String() != string(o.Schema) {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
	for name, want := range map[string]string{"Content-Type": "application/schema+json", "Access-Control-Allow-Origin": "*"} {
		if got := answer.Header().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
