package checks

import (
	"regexp"
	"strings"
)

// Rule is one kind of mistake, as reports for machines name it.
type Rule struct {
	ID    string // "unknown-key"; does not change between versions
	Short string // one sentence
	// Warning tells that a formula works all the same.
	Warning bool
	// begins matches the messages of the rule's mistakes, behind "cannot "; nil for
	// those that nothing else matches.
	begins *regexp.Regexp
}

// Rules lists every rule that a Mistake may have. The first that matches counts.
func Rules() []Rule {
	rule := func(id, begins, short string) Rule {
		return Rule{ID: id, Short: short, begins: regexp.MustCompile("^(?:" + begins + ")")}
	}
	return []Rule{
		{ID: "doubtful", Short: "What is written so works, but hardly as it is meant.", Warning: true},
		{ID: "deprecated", Short: "What is written so still works, but has a newer spelling.", Warning: true},
		{ID: "yaml", Short: "The file is text in YAML, one document, without tags and merge keys."},
		rule("duplicate", `use the key .* twice|use \S+ twice|take the argument \S+ twice|use both |use the check name |use the combination .* twice`, "Everything is said once, and check names differ."),
		rule("unknown-directive", `use the directive "`, "An action has a directive that there is."),
		rule("one-directive", `use the directives |find a directive`, "An action has exactly one directive."),
		rule("unknown-key", `use the key ".* in `, "All keys are known."),
		rule("missing-key", `read .* without |hand in results from nowhere`, "What must be said is said."),
		rule("unknown-variable", `find the variable |use the variable |use a single \$`, "Variables have a value by the time they are used; $$ is a dollar sign."),
		rule("file", `find the file |use the file |read ".*, which is `, "Files are plain files beside the formula."),
		rule("too-large", `[a-z -]+ (?:more|larger|longer) than |use a matrix of `, "Everything has a bound."),
		rule("wrong-type", `read `, "Values are what their keys take: a text, a list, a mapping."),
		{ID: "invalid-value", Short: "Values are among those that their keys take."},
	}
}

// ruleOf finds the rule of a message.
func ruleOf(message string) string {
	message = strings.TrimPrefix(message, "cannot ")
	id := ""
	for _, r := range Rules() {
		if id = r.ID; r.begins != nil && r.begins.MatchString(message) {
			break
		}
	}
	return id
}

// Rule is the ID of one of Rules.
func (m Mistake) Rule() string {
	switch id := ruleOf(m.Message); {
	case m.Warning && strings.Contains(m.Message, " is the older "):
		return "deprecated"
	case m.Warning:
		return "doubtful"
	case m.yaml && id != "duplicate":
		return "yaml"
	default:
		return id
	}
}
