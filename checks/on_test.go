package checks

import (
	"strings"
	"testing"

	"github.com/assay-ci/assay"
)

func TestWantsEvent(t *testing.T) {
	const full = "input: {args: [git_commit, koji_build, pull_request]}\n" +
		"on: {events: [push, build], types: [git_commit, koji_build], branches: [main, 'release/**'], paths: ['src/**/*.c', docs/]}\n"
	tests := []struct {
		head    string
		kind    assay.EventKind
		typ     string
		branch  string
		changed []string
		why     string // "" for wanted
	}{
		{"", assay.EventPush, "git_commit", "main", nil, ""},
		{"", "event_of_next_year", "koji_build", "", nil, ""},
		{"input: {args: [koji_build]}\n", assay.EventPush, "git_commit", "main", nil, `input.args has no "git_commit"`},
		{full, assay.EventPush, "git_commit", "main", []string{"README", "src/a/b.c"}, ""},
		{full, assay.EventPush, "git_commit", "refs/heads/main", []string{"src/b.c"}, ""},
		{full, assay.EventPush, "git_commit", "release/1/2", []string{"docs/a/b"}, ""},
		{full, assay.EventPush, "git_commit", "release/1", nil, ""},
		{full, assay.EventBuild, "koji_build", "main", nil, ""},
		{full, assay.EventRerun, "koji_build", "main", nil, ""},
		{full, assay.EventPullRequest, "git_commit", "main", nil, `on.events has no "pull_request"`},
		{full, assay.EventComment, "git_commit", "main", nil, `on.events has no "pull_request"`},
		{full, assay.EventPush, "pull_request", "main", nil, `on.types has no "pull_request"`},
		{full, assay.EventPush, "git_commit", "mainly", nil, `on.branches has no pattern for "mainly"`},
		{full, assay.EventPush, "git_commit", "ma\nin\x1b[2J", nil, `on.branches has no pattern for "ma\nin\x1b[2J"`},
		{full, assay.EventBuild, "koji_build", "", nil, "on.branches asks for a branch, and the event has none"},
		{full, assay.EventPush, "git_commit", "main", []string{"README", "src/a/b.h"}, "on.paths has no pattern for any of the changed files"},
		{full, assay.EventPush, "git_commit", "main", []string{}, "on.paths has no pattern for any of the changed files"},
		{"on: pull_request\n", assay.EventComment, "pull_request", "", nil, ""},
		{"on: {types: bodhi_id}\n", assay.EventPush, "bodhi_update", "", nil, ""},
	}
	for _, tt := range tests {
		f := mustParse(t, tt.head, "  - {name: a, shell: [x]}\n")
		ok, why := f.WantsEvent(tt.kind, tt.typ, tt.branch, tt.changed)
		if ok != (tt.why == "") || why != tt.why {
			t.Errorf("%s: WantsEvent(%s, %s, %q, %q) = %v, %q; want %q", tt.head, tt.kind, tt.typ, tt.branch, tt.changed, ok, why, tt.why)
		}
	}
}

// More than can be looked at keeps no check from running.
func TestWantsEventIsBounded(t *testing.T) {
	f := mustParse(t, "on: {paths: ['"+strings.Repeat("*a", 90)+"b']}\n", "  - {name: a, shell: [x]}\n")
	long := strings.Repeat("a", 4000)
	few := []string{long, long, long}
	if ok, _ := f.WantsEvent(assay.EventPush, "git_commit", "main", few); ok {
		t.Error("a pattern matches what it does not")
	}
	many := make([]string, maxMatching/len(long))
	for i := range many {
		many[i] = long
	}
	if ok, why := f.WantsEvent(assay.EventPush, "git_commit", "main", many); !ok {
		t.Errorf("%d files of %d bytes: %s", len(many), len(long), why)
	}
}

func TestWantsLooksAtOn(t *testing.T) {
	f := mustParse(t, "on: {types: [koji_build]}\n", "  - {name: a, shell: [x]}\n")
	if !f.Wants("koji_build") || f.Wants("git_commit") {
		t.Error("Wants does not follow on.types")
	}
}
