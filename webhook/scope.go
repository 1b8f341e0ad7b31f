package webhook

import (
	"path"
	"strings"

	"github.com/assay-ci/assay"
)

// scopeOf is what a scoped secret has to name for an event.
func scopeOf(e assay.Event) string {
	if e.Build != nil {
		return e.Build.Package
	}
	return e.Repo
}

func inScope(e assay.Event, patterns []string) bool {
	name := scopeOf(e)
	for _, pattern := range patterns {
		if scopeMatches(pattern, name) {
			return true
		}
	}
	return false
}

// scopeMatches compares part by part: "*" never reaches over a slash, so that a
// secret of an owner is none of another owner's.
func scopeMatches(pattern, name string) bool {
	if name == "" || !validScope(pattern) {
		return false
	}
	want, have := strings.Split(lowerHost(pattern), "/"), strings.Split(name, "/")
	if last := len(want) - 1; want[last] == "**" {
		if len(have) < len(want) {
			return false
		}
		want, have = want[:last], have[:last]
	}
	if len(want) != len(have) {
		return false
	}
	for i := range want {
		if ok, err := path.Match(want[i], have[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

// lowerHost lowers the part before the first slash if it looks like a host:
// that is how Event.Repo has it.
func lowerHost(pattern string) string {
	host, rest, found := strings.Cut(pattern, "/")
	if !found || !strings.ContainsAny(host, ".:") {
		return pattern
	}
	return strings.ToLower(host) + "/" + rest
}

// validScope tells whether the pattern can match anything, and names at least
// where it begins: a secret for everything is no scoped one.
func validScope(pattern string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(pattern, "/"), "/")
	if first == "" || strings.ContainsAny(first, "*?[") && strings.Contains(pattern, "/") {
		return false
	}
	for _, part := range strings.Split(pattern, "/") {
		if _, err := path.Match(part, ""); err != nil {
			return false
		}
	}
	return pattern != "**" && pattern != "*"
}
