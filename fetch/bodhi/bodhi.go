// Package bodhi asks a Bodhi server which builds an update consists of, over its
// REST interface (bodhi.fedoraproject.org/docs, "updates").
package bodhi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/assay-ci/assay/fetch"
	"github.com/assay-ci/assay/fetch/nvr"
)

// Server is a Bodhi server.
type Server struct {
	Web *fetch.Web
	URL string // "https://bodhi.example.org"
}

// maxAnswer bounds an answer, in bytes: an update carries all its comments.
const maxAnswer = 16 << 20

// maxBuilds bounds the builds of one update; the largest real ones have some
// hundreds.
const maxBuilds = 2000

// updateID is an update's alias, or the older title of one build.
var updateID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.+~^-]{0,199}$`)

// update is what GET /updates/ID answers, as far as it matters here.
type update struct {
	Update *struct {
		Builds []struct {
			NVR  string `json:"nvr"`
			Type string `json:"type"` // "rpm"; others are modules, containers and flatpaks
		} `json:"builds"`
	} `json:"update"`
}

// Builds lists the builds of an update that are of RPM packages. The error is
// assay.ErrFetchRefused for an update that is not there, or has none.
func (s *Server) Builds(ctx context.Context, id string) ([]nvr.NVR, error) {
	if !updateID.MatchString(id) {
		return nil, fetch.Refuse("cannot find the update %.100q: write its name, such as FEDORA-2017-04459ef8cf", id)
	}
	address := strings.TrimSuffix(s.URL, "/") + "/updates/" + url.PathEscape(id)
	data, err := s.Web.Get(ctx, address, http.Header{"Accept": {"application/json"}}, maxAnswer)
	if errors.Is(err, fetch.ErrMissing) {
		return nil, fetch.Refuse("cannot find the update %s: Bodhi does not know it", id)
	}
	if err != nil {
		return nil, err
	}
	var u update
	if err := json.Unmarshal(data, &u); err != nil || u.Update == nil {
		return nil, fmt.Errorf("cannot read Bodhi's answer about %s: it is no update in JSON", id)
	}
	return builds(id, u)
}

func builds(id string, u update) ([]nvr.NVR, error) {
	var list []nvr.NVR
	if len(u.Update.Builds) > maxBuilds {
		return nil, fetch.Refuse("cannot take the update %s: it has more than %d builds", id, maxBuilds)
	}
	for _, b := range u.Update.Builds {
		if b.Type != "" && b.Type != "rpm" {
			continue
		}
		n, err := nvr.Parse(b.NVR)
		if err != nil {
			return nil, fmt.Errorf("cannot read Bodhi's answer about %s: %w", id, err)
		}
		list = append(list, n)
	}
	if len(list) == 0 {
		return nil, fetch.Refuse("cannot download the update %s: it has no builds of RPM packages", id)
	}
	return list, nil
}
