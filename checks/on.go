package checks

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// onKeys is the table of the keys below on.
func onKeys() []key {
	return []key{
		{name: "events", read: readOnEvents},
		{name: "types", read: func(p *parser, n *yaml.Node) {
			p.formula.On.Types = p.words(n, "on.types", "an item type", itemTypes())
		}},
		{name: "branches", read: func(p *parser, n *yaml.Node) { p.formula.On.Branches = p.patterns(n, "on.branches") }},
		{name: "paths", read: func(p *parser, n *yaml.Node) { p.formula.On.Paths = p.patterns(n, "on.paths") }},
	}
}

// readOn takes a mapping, or events alone. YAML 1.1 reads the bare key on as a
// boolean; nothing here reads keys but as text.
func readOn(p *parser, n *yaml.Node) {
	switch {
	case isNull(n):
	case n.Kind == yaml.MappingNode:
		p.mapping(n, "on", onKeys(), nil)
	default:
		readOnEvents(p, n)
	}
}

func readOnEvents(p *parser, n *yaml.Node) {
	for _, event := range p.words(n, "on.events", "an event", eventKinds()) {
		p.formula.On.Events = append(p.formula.On.Events, assay.EventKind(event))
	}
}

// eventKinds lists what a formula may wait for. A comment asks for what a pull
// request asks for, and a rerun for what ran before.
func eventKinds() []string {
	return []string{string(assay.EventPush), string(assay.EventPullRequest), string(assay.EventBuild)}
}

// words reads one word or a list of words, each once and out of those known.
func (p *parser) words(n *yaml.Node, key, what string, known []string) []string {
	var words []string
	for _, item := range p.oneOrMore(n, key, maxPatterns) {
		s, ok := p.text(item, what)
		switch {
		case !ok:
		case !slices.Contains(known, s):
			p.mistake(item, "use %s as %s: %s", shown(s), what, didYouMean(s, known))
		case slices.Contains(words, s):
			p.mistake(item, "use %s twice: write it once", s)
		default:
			words = append(words, s)
		}
	}
	return words
}

// patterns reads one pattern or a list of patterns.
func (p *parser) patterns(n *yaml.Node, key string) []string {
	var patterns []string
	for _, item := range p.oneOrMore(n, key, maxPatterns) {
		s := p.line(item, "a pattern")
		if s == "" {
			continue
		}
		if _, err := parseGlob(s); err != nil {
			p.mistake(item, "%s", err)
			continue
		}
		patterns = append(patterns, s)
	}
	return patterns
}

// oneOrMore are the values of a key that takes nothing, one value or a list that
// is not empty: an empty one would say the opposite of what it looks like.
func (p *parser) oneOrMore(n *yaml.Node, key string, most int) []*yaml.Node {
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		p.mistake(n, "read an empty list as %s: write a value, or delete the key", key)
		return nil
	}
	return p.items(n, "values of "+key, "[A, B]", most)
}

// WantsEvent tells whether the formula is to run for an event, and if it is not,
// why, in one line. itemType is the type of the event's item; branch the one
// that moved, was built from or is to be merged into, with or without
// refs/heads/, "" when the event has none; changed the names of the files that
// it changed, slash-separated and relative to their repository, nil when they
// are not known. What is not known keeps no formula from running, and neither
// does more than can be looked at (maxMatching). A comment counts as a pull
// request, and a rerun as every event.
func (f *Formula) WantsEvent(kind assay.EventKind, itemType, branch string, changed []string) (ok bool, why string) {
	if kind == assay.EventComment {
		kind = assay.EventPullRequest
	}
	on := f.On
	branch = strings.TrimPrefix(branch, "refs/heads/")
	switch {
	case !wantsType(f.Args, itemType):
		return false, fmt.Sprintf("input.args has no %s", shown(itemType))
	case !f.Wants(itemType):
		return false, fmt.Sprintf("on.types has no %s", shown(itemType))
	case len(on.Events) > 0 && kind != assay.EventRerun && !slices.Contains(on.Events, kind):
		return false, fmt.Sprintf("on.events has no %s", shown(string(kind)))
	case len(on.Branches) > 0 && branch == "":
		return false, "on.branches asks for a branch, and the event has none"
	case len(on.Branches) > 0 && !matchesAny(on.Branches, []string{branch}):
		return false, fmt.Sprintf("on.branches has no pattern for %s", shown(branch))
	case len(on.Paths) > 0 && changed != nil && !matchesAny(on.Paths, changed):
		return false, "on.paths has no pattern for any of the changed files"
	}
	return true, ""
}

// matchesAny tells whether any of the names matches any of the patterns, or that
// there are too many to tell.
func matchesAny(patterns, names []string) bool {
	left := maxMatching
	for _, pattern := range patterns {
		g, err := parseGlob(pattern)
		if err != nil {
			continue // Parse has refused it
		}
		for _, name := range names {
			if left--; left < 0 || g.match(name, &left) {
				return true
			}
		}
	}
	return false
}
