package checks

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-ci/assay"
)

// reports are the files whose results are recorded beside them.
const reports = "testdata/reports"

// TestParseReport reads every report in testdata/reports; what comes of it is in
// NAME.results. `go test -run TestParseReport -update` writes these anew.
func TestParseReport(t *testing.T) {
	files, err := filepath.Glob(reports + "/*.*")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range files {
		if strings.HasSuffix(file, ".results") {
			continue
		}
		seen++
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			results, err := ParseReport(data)
			if err != nil {
				t.Fatal(err)
			}
			text, err := resultYAML(results)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, file+".results", []byte(text))
			again, err := ParseReport([]byte(text))
			if err != nil {
				t.Fatalf("what was written cannot be read: %v", err)
			}
			if diff := cmp.Diff(results, again); diff != "" {
				t.Errorf("written and read again it differs:\n%s", diff)
			}
		})
	}
	if seen < 10 {
		t.Errorf("only %d reports", seen)
	}
}

func TestFormatOf(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   formatYAML,
		"results: []":                        formatYAML,
		"---\nresults:\n- note: |\n    1..1": formatYAML,
		`{"results": []}`:                    formatYAML,
		"# ok\nversion: 1\nresults:\n":       formatYAML,
		"noise\nok 1\n":                      formatTAP,
		"1..0 # SKIP":                        formatTAP,
		"not ok":                             formatTAP,
		"okay: yes\n":                        formatYAML,
		"Bail out!":                          formatTAP,
		"TAP version 13\nresults: []":        formatTAP,
		"\uFEFF \n<testsuite/>":              formatXUnit,
		"\uFEFFTAP version 13\n":             formatTAP,
		"nonsense":                           formatYAML,
	} {
		if got := formatOf([]byte(text)); got != want {
			t.Errorf("%q is taken for %s, want %s", text, got, want)
		}
	}
}

func TestParseReportRefuses(t *testing.T) {
	deep := strings.Repeat("<testsuite>", maxXMLDepth+1)
	for _, test := range []struct{ format, text, want string }{
		{"tap", " \n", "from nothing"},
		{"xunit", "", "from nothing"},
		{"tap", strings.Repeat(" ", MaxResultsSize+1), "larger than 8 MiB"},
		{"tap", "TAP version 99", `TAP version "99"`},
		{"tap", "1..1000000001", "plan of"},
		{"tap", strings.Repeat("ok\n", MaxResults+1), "more than 100000 tests"},
		{"xunit", "<testsuite>", "ends within <testsuite>"},
		{"xunit", "<testsuite></testsuites>", "</testsuites> closes nothing"},
		{"xunit", "</testsuite>", "closes nothing"},
		{"xunit", "<!-- only a comment -->", "no element"},
		{"xunit", "<testsuite/><testsuite/>", "second root"},
		{"xunit", "<project/>", "its root is <project>"},
		{"xunit", deep, "nested more than 64"},
		{"xunit", `<!DOCTYPE x [<!ENTITY a "b">]><testsuite/>`, "document type"},
		{"xunit", "<testsuite name='&a;'/>", "invalid character entity"},
		{"xunit", "<?xml version='1.0' encoding='utf-16'?><testsuite/>", "encoding"},
		{"xunit", "<testsuite><testcase name='\x01'/></testsuite>", "illegal character"},
		{"xunit", "<testsuites>" + strings.Repeat("<testcase/>", MaxResults+1) + "</testsuites>", "more than 100000 tests"},
		{"", "<html>", "its root is <html>"},
		{"resultyaml", "1..1\nok 1\n", "cannot read a text"},
	} {
		_, err := parseAs(test.format, []byte(test.text))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %.60q: got %v, want …%s…", test.format, test.text, err, test.want)
		}
		if err != nil {
			checkMessage(t, err.Error())
		}
	}
}

func TestXUnitTurned(t *testing.T) {
	data, err := os.ReadFile(reports + "/pytest.xml")
	if err != nil {
		t.Fatal(err)
	}
	whole := assay.Result{Item: "i", Type: "t", Checkname: "c", Artifact: "tests.xml"}
	cases, err := parseXUnit(data)
	if err != nil {
		t.Fatal(err)
	}
	for aggregation, want := range map[string]string{
		aggregateAll: "c FAILED 2 PASSED, 2 FAILED",
		aggregateNone: "c.test_hello PASSED , c.test_name[<a&b>] FAILED failure: assert 1 == 2\ndef test():\n>   assert 1 == 2\nsystem-out:\ngreeting <b>&, " +
			"c.test_skip INFO skipped: no network\nwhere it says so, c.tests.test_broken FAILED error: collection failure",
	} {
		made, err := turnedXUnit(aggregation, whole, cases, true)
		if err != nil || made.Value != made.Results {
			t.Fatalf("%v: %+v", err, made)
		}
		results, err := ParseResults([]byte(made.Results))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range results {
			if r.Item != "i" || r.Type != "t" || r.Artifact != "tests.xml" {
				t.Errorf("not filled in: %+v", r)
			}
			got = append(got, r.Checkname+" "+string(r.Outcome)+" "+r.Note)
		}
		if all := strings.Join(got, ", "); all != want {
			t.Errorf("%s:\n%s\nwant:\n%s", aggregation, all, want)
		}
	}
	if made, _ := turnedXUnit(aggregateAll, whole, nil, false); made.Results != "" || !strings.Contains(made.Value.(string), "PASSED") {
		t.Errorf("of no tests, exported: %+v", made)
	}
}

func TestReportPage(t *testing.T) {
	head := reportView{Check: "pkg.x", Item: "gzip-1", Type: "koji_build", dir: "/run/artifacts"}
	html, err := head.html([]byte(`{"results": [
		{"outcome": "FAILED", "checkname": ".<b>", "note": "</pre><script>alert(1)</script>", "artifact": "/run/artifacts/a b/c.log"},
		{"outcome": "PASSED", "artifact": "../../etc/passwd"}, {"artifact": "javascript:alert(1)"}]}`), "pages/all/r.html")
	if err != nil {
		t.Fatal(err)
	}
	text := string(html)
	for _, want := range []string{
		"<title>pkg.x: 1 PASSED, 1 FAILED, 1 NEEDS_INSPECTION</title>", "pkg.x.&lt;b&gt;", "&lt;/pre&gt;&lt;script&gt;",
		`<a href="../../a%20b/c.log">../../a%20b/c.log</a>`, `<a href="../../javascript:alert%281%29">`, "<td>gzip-1</td>",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	for _, bad := range []string{"<script>", "etc/passwd", "<b>", `href="javascript`} {
		if strings.Contains(text, bad) {
			t.Errorf("the page holds %s", bad)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	if _, err := head.html([]byte("no results"), "r.html"); err == nil {
		t.Error("a page was made of what is no result")
	}
}

// TestRenderTemplate runs the program that renders a check's template, with what
// Jinja2 there is here, and one that stands in where there is none.
func TestRenderTemplate(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("own.j2", "{% for r in results %}{{ r.checkname }} {{ r.outcome }} {{ r.note }} {{ r.artifact }};{% endfor %} {{ artifactsdir }}")
	write("render.py", render)
	order := map[string]any{
		"template": "own.j2", "base": dir, "output": filepath.Join(dir, "out", "sub", "own.html"), "artifactsdir": filepath.Join(dir, "out"),
		"checkname": "pkg.x", "item": "i", "type": "t",
		"results": reportEntries([]assay.Result{{Outcome: assay.Passed, Checkname: ".a", Note: "<i>"}, {Outcome: assay.Failed, Artifact: "a.log"}}),
	}
	runRender(t, dir, order, "")
	got, err := os.ReadFile(filepath.Join(dir, "out", "sub", "own.html"))
	want := "pkg.x.a PASSED &lt;i&gt; None;pkg.x FAILED --- ../a.log; " + filepath.Join(dir, "out")
	if err != nil || string(got) != want {
		t.Errorf("%v: %s, want %s", err, got, want)
	}
	write("r.yml", "results:\n- {item: x, outcome: INFO}\n")
	delete(order, "results")
	order["file"] = filepath.Join(dir, "r.yml")
	runRender(t, dir, order, "")
	if got, err := os.ReadFile(filepath.Join(dir, "out", "sub", "own.html")); err != nil || !strings.HasPrefix(string(got), "pkg.x INFO --- None;") {
		t.Errorf("from a file: %v: %s", err, got)
	}
	order["template"] = "../own.j2"
	runRender(t, dir, order, "create_report: cannot render ../own.j2: TemplateNotFound")
	write("own.j2", "{% for %}")
	order["template"] = "own.j2"
	runRender(t, dir, order, "create_report: cannot render own.j2: TemplateSyntaxError")
	write("jinja2.py", "raise ImportError()\n")
	runRender(t, dir, order, "create_report: cannot use a template without Jinja2: add python3-jinja2 to environment")
}

// runRender runs render.py; complaint is what it must end with, "" for success.
func runRender(t *testing.T, dir string, order map[string]any, complaint string) {
	t.Helper()
	stdin, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("python3", filepath.Join(dir, "render.py"))
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(stdin), &stderr
	err = cmd.Run()
	if (err == nil) != (complaint == "") || !strings.Contains(stderr.String(), complaint) {
		t.Errorf("it ended with %v: %s, want %q", err, stderr.String(), complaint)
	}
}
