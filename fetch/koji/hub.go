// Package koji asks a Koji hub what was built, over XML-RPC, and knows where its
// package server keeps the files (docs.pagure.org/koji, "hub API", pathinfo).
package koji

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/assay-ci/assay/fetch"
	"github.com/assay-ci/assay/fetch/nvr"
	"github.com/assay-ci/assay/fetch/xmlrpc"
)

// Hub is a Koji hub. Its errors are assay.ErrFetchRefused when the hub says no
// for good.
type Hub struct {
	Web *fetch.Web
	URL string // "https://koji.example.org/kojihub"
}

// Build is a finished build.
type Build struct {
	nvr.NVR
	ID int64
}

// RPM is one package file of a build. Its parts are safe in paths.
type RPM struct {
	nvr.NVR
	Arch string
	Size int64  // bytes; 0 when the hub does not know
	MD5  string // of header and payload, in hexadecimal; "" when the hub does not know
}

// File is the package's file name.
func (r RPM) File() string { return r.NVR.String() + "." + r.Arch + ".rpm" }

// maxAnswer bounds an answer of the hub, in bytes: a large tag has 20,000 builds
// of 2 KB each.
const maxAnswer = 64 << 20

// Fault codes that tell of the hub's own trouble (koji/__init__.py, the
// faultCode of RetryError and ServerOffline).
const (
	faultRetry   = 1009
	faultOffline = 1014
)

// call asks the hub; named arguments go as Koji's clients send them.
func (h *Hub) call(ctx context.Context, method string, positional []any, named map[string]any) (any, error) {
	if len(named) > 0 {
		named["__starstar"] = true
		positional = append(positional, named)
	}
	body, err := xmlrpc.Call(method, positional...)
	if err != nil {
		return nil, fetch.Refuse("cannot ask Koji: %w", err)
	}
	header := http.Header{"Content-Type": {"text/xml"}}
	var result any
	err = h.Web.Retry(ctx, func(ctx context.Context) error {
		once := *h.Web
		once.Pauses = nil
		answer, err := once.Post(ctx, h.URL, header, body, maxAnswer)
		if err != nil {
			return err
		}
		result, err = xmlrpc.ReadResponse(bytes.NewReader(answer))
		return faultOf(err)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot ask Koji for %s: %w", method, err)
	}
	return result, nil
}

// faultOf tells the hub's "no" from its trouble, and both from nonsense.
func faultOf(err error) error {
	var fault *xmlrpc.Fault
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &fault):
		return fetch.Senseless("%w", err)
	case fault.Code == faultRetry || fault.Code == faultOffline:
		return err
	}
	return fetch.Refuse("it says: %.300q", fault.String)
}

// The states of builds (koji.BUILD_STATES).
const (
	stateBuilding = 0
	stateComplete = 1
)

// Build finds a build by its name, version and release.
func (h *Hub) Build(ctx context.Context, name nvr.NVR) (Build, error) {
	v, err := h.call(ctx, "getBuild", []any{name.String()}, nil)
	if err != nil {
		return Build{}, err
	}
	if v == nil {
		return Build{}, fetch.Refuse("cannot find the build %s: Koji does not know it", name)
	}
	b, state, err := readBuild(v)
	switch {
	case err != nil:
		return b, err
	case b.NVR != name:
		return b, fetch.Senseless("cannot take the build %.100q for %s, which Koji was asked for", b.NVR, name)
	case state == stateBuilding:
		return b, fmt.Errorf("cannot download %s: it is being built", name)
	case state != stateComplete:
		return b, fetch.Refuse("cannot download %s: its build is deleted, failed or cancelled", name)
	}
	return b, nil
}

// RPMs lists the packages of a build.
func (h *Hub) RPMs(ctx context.Context, build Build) ([]RPM, error) {
	v, err := h.call(ctx, "listRPMs", nil, map[string]any{"buildID": build.ID})
	if err != nil {
		return nil, err
	}
	var rpms []RPM
	err = each(v, func(m map[string]any) error {
		r, err := readRPM(m)
		rpms = append(rpms, r)
		return err
	})
	return rpms, err
}

// Tagged lists the builds that carry a tag themselves.
func (h *Hub) Tagged(ctx context.Context, tag string) ([]Build, error) {
	return h.list(ctx, tag, nil)
}

// Latest finds the newest build of a package with a tag; false when there is none.
func (h *Hub) Latest(ctx context.Context, tag, name string) (Build, bool, error) {
	builds, err := h.list(ctx, tag, map[string]any{"package": name, "latest": true})
	if err != nil || len(builds) == 0 {
		return Build{}, false, err
	}
	if builds[0].Name != name {
		return Build{}, false, fetch.Senseless("cannot take the build %.100q for one of %s, which Koji was asked for", builds[0].NVR, name)
	}
	return builds[0], true, nil
}

func (h *Hub) list(ctx context.Context, tag string, named map[string]any) ([]Build, error) {
	v, err := h.call(ctx, "listTagged", []any{tag}, named)
	if err != nil {
		return nil, err
	}
	var builds []Build
	err = each(v, func(m map[string]any) error {
		b, _, err := readBuild(m)
		builds = append(builds, b)
		return err
	})
	return builds, err
}

// each goes through a list of structs.
func each(v any, take func(map[string]any) error) error {
	list, ok := v.([]any)
	if !ok {
		return fetch.Senseless("cannot read Koji's answer: it is no list")
	}
	for _, item := range list {
		m, ok := item.(map[string]any)
		if !ok {
			return fetch.Senseless("cannot read Koji's answer: its list holds something else than structs")
		}
		if err := take(m); err != nil {
			return err
		}
	}
	return nil
}

// readBuild reads what getBuild and listTagged return.
func readBuild(v any) (b Build, state int64, err error) {
	m, _ := v.(map[string]any)
	b.NVR = readNVR(m)
	b.ID, _ = m["id"].(int64)
	if id, ok := m["build_id"].(int64); ok {
		b.ID = id
	}
	state, ok := m["state"].(int64)
	if !ok {
		state = stateComplete // listTagged of old hubs lists complete ones only
	}
	if !b.Valid() || b.ID <= 0 {
		return Build{}, 0, fetch.Senseless("cannot take %.100q for a build: Koji's answer has no name, version, release or number that can be", b.NVR)
	}
	return b, state, nil
}

func readNVR(m map[string]any) nvr.NVR {
	var n nvr.NVR
	n.Name, _ = m["name"].(string)
	n.Version, _ = m["version"].(string)
	n.Release, _ = m["release"].(string)
	return n
}

// readRPM reads what listRPMs returns.
func readRPM(m map[string]any) (RPM, error) {
	r := RPM{NVR: readNVR(m)}
	r.Arch, _ = m["arch"].(string)
	r.Size, _ = m["size"].(int64)
	r.MD5, _ = m["payloadhash"].(string)
	if !isMD5(r.MD5) {
		r.MD5 = "" // packages in RPM's newest format have no such sum
	}
	if !r.Valid() || !nvr.IsPart(r.Arch) || r.Size < 0 || len(r.File()) > 255 {
		return RPM{}, fetch.Senseless("cannot take %.100q for a package: Koji's answer has no name, version, release or architecture that can be", r.File())
	}
	return r, nil
}

func isMD5(s string) bool {
	if len(s) != 32 {
		return false
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
