package web

import (
	"net/http"

	"github.com/assay-ci/assay"
)

// schema answers with the JSON Schema of formulas. Editors in browsers may read
// it from any page: there is nothing in it but the language.
func (s *server) schema(*http.Request) (response, error) {
	if len(s.Schema) == 0 {
		return nil, assay.ErrNotFound
	}
	answer := body{http.StatusOK, "application/schema+json", "public, max-age=300", s.Schema}
	return withHeader{"Access-Control-Allow-Origin", "*", answer}, nil
}
