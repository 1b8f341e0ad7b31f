package checks

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/assay-ci/assay"
)

// The formats of what a check reports, as the argument format names them.
const (
	formatYAML  = "resultyaml"
	formatTAP   = "tap"
	formatXUnit = "xunit"
)

// formats are the words of the argument format.
func formats() []string { return []string{formatYAML, formatTAP, formatXUnit} }

// ParseReport reads what a check reports and tells the format by itself:
// ResultYAML as ParseResults reads it, TAP 13 or 14, or xunit's (JUnit's) XML.
// A Checkname that begins with a dot is the part of it that is the test's own:
// the caller writes the check's name in front. Bounds and errors are those of
// ParseResults.
func ParseReport(data []byte) ([]assay.Result, error) { return parseAs("", data) }

// parseAs reads a report of a known format; "" is to be told from the data.
func parseAs(format string, data []byte) ([]assay.Result, error) {
	if format == "" {
		format = formatOf(data)
	}
	if format == formatYAML {
		return ParseResults(data)
	}
	if len(data) > MaxResultsSize {
		return nil, fmt.Errorf("cannot read results larger than %d MiB: write fewer, or shorter notes", MaxResultsSize>>20)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, fmt.Errorf("cannot read results from nothing: write %s into it", format)
	}
	if format == formatTAP {
		return parseTAP(data)
	}
	cases, err := parseXUnit(data)
	if err != nil {
		return nil, err
	}
	results := make([]assay.Result, len(cases))
	for i, c := range cases {
		results[i] = c.result()
	}
	return results, nil
}

// formatOf tells a report's format. XML begins with <. TAP may follow lines of
// other programs, which no harness minds; the first line that only one of TAP and
// YAML can have decides.
func formatOf(data []byte) string {
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("<")) {
		return formatXUnit
	}
	for line := range bytes.Lines(data) {
		text := strings.TrimRight(string(line[:min(len(line), maxLine)]), " \t\r\n")
		switch kind, _ := tapKindOf(text); {
		case kind == tapVersion, kind == tapPlan, kind == tapPoint, kind == tapBail:
			return formatTAP
		case strings.HasPrefix(text, "results:"), strings.HasPrefix(text, "{"), text == "---":
			return formatYAML
		}
	}
	return formatYAML
}

// resultYAML writes results as ResultYAML, one a line; ParseResults reads them
// back as they are.
func resultYAML(results []assay.Result) (string, error) {
	if len(results) == 0 {
		return "results: []\n", nil
	}
	var b strings.Builder
	b.WriteString("results:\n")
	for _, r := range results {
		line, err := resultYAMLLine(r)
		if err != nil {
			return "", err
		}
		b.WriteString("- {" + line + "}\n")
	}
	return b.String(), nil
}

// resultYAMLLine is one result as the inside of a flow mapping.
func resultYAMLLine(r assay.Result) (string, error) {
	type pair struct {
		key   string
		value any
	}
	var pairs []pair
	for _, p := range []pair{
		{"item", r.Item}, {"type", r.Type}, {"checkname", r.Checkname}, {"outcome", string(r.Outcome)},
		{"note", r.Note}, {"artifact", r.Artifact},
	} {
		if p.value != "" {
			pairs = append(pairs, p)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(r.Data)) {
		var value any = r.Data[key]
		if len(r.Data[key]) == 1 {
			value = r.Data[key][0]
		}
		pairs = append(pairs, pair{key, value})
	}
	words := make([]string, len(pairs))
	for i, p := range pairs {
		key, err := yamlText(p.key)
		if err != nil {
			return "", err
		}
		value, err := yamlText(p.value)
		if err != nil {
			return "", err
		}
		words[i] = key + ": " + value
	}
	return strings.Join(words, ", "), nil
}

// worstOf is the worst outcome of results; PASSED for none.
func worstOf(results []assay.Result) assay.Outcome {
	worst := assay.Passed
	for _, r := range results {
		worst = worst.Worst(r.Outcome)
	}
	return worst
}

// tally counts outcomes as libtaskotron words them: "3 PASSED, 1 INFO, 2 FAILED".
func tally(results []assay.Result) string {
	count := map[assay.Outcome]int{}
	for _, r := range results {
		count[r.Outcome]++
	}
	var parts []string
	for _, o := range assay.Outcomes() {
		if count[o] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[o], o))
		}
	}
	return strings.Join(parts, ", ")
}

// Bounds of what is made of foreign formats, in bytes.
const (
	maxTestName = 500
	maxTestNote = 8 << 10
)

// testName makes a stranger's words the name of a test: one line, without
// control characters.
func testName(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return strings.TrimSpace(cut(strings.TrimSpace(s), maxTestName))
}

// testNote makes a stranger's words a note: text of several lines.
func testNote(s string) string {
	s = strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return strings.Trim(cut(s, maxTestNote), "\n")
}

// cut shortens a text to about limit bytes, between characters.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}
