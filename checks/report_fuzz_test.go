package checks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-ci/assay"
)

// FuzzTAP: whatever the text, it is results within bounds that ResultYAML can
// say, or a mistake of one line.
func FuzzTAP(f *testing.F) {
	addReports(f, "tap")
	for _, seed := range []string{
		"ok", "not ok 1 \\# \\\\ # TODO", "1..0", "1..1\n    1..1\n        ok\nok\n", "ok\n  ---\n  ...\n", "    Bail out!", "pragma +strict\n1..1\nx\nok",
		"1..2\nok 2\nok 2\nok 99999999999999999999", "# Subtest: \n    ok # skip\n    1..1\nnot ok", "ok\n ---\n  a\n b\n", "1..1000000000\nok 500000000",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkReport(t, formatTAP, data) })
}

// FuzzXunit: as FuzzTAP.
func FuzzXunit(f *testing.F) {
	addReports(f, "xml")
	for _, seed := range []string{
		"<testsuite><testcase><failure><![CDATA[x]]></failure></testcase></testsuite>", "<testsuites><testsuite><failure/><error>x</error></testsuite></testsuites>",
		"<testsuite>&#0;</testsuite>", "<a:testsuite xmlns:a='b'><a:testcase a:name='c' name='d'/></a:testsuite>", "<testsuite><testcase><testcase/></testcase></testsuite>",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkReport(t, formatXUnit, data) })
}

func addReports(f *testing.F, ext string) {
	files, err := filepath.Glob(reports + "/*." + ext)
	if err != nil || len(files) == 0 {
		f.Fatalf("cannot find the reports: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

func checkReport(t *testing.T, format string, data []byte) {
	results, err := parseAs(format, data)
	if err != nil {
		checkMessage(t, err.Error())
		return
	}
	if format == formatTAP && len(results) == 0 && !strings.Contains(string(data), "1..0") {
		t.Error("TAP without any result")
	}
	for _, r := range results {
		if _, ok := assay.ParseOutcome(string(r.Outcome)); !ok || len(r.Note) > 2*maxTestNote || len(r.Checkname) > 3*maxTestName+8 {
			t.Errorf("not a result: %+v", r)
		}
		if r.Checkname != "" && !strings.HasPrefix(r.Checkname, ".") {
			t.Errorf("a name that is not the check's own: %+v", r)
		}
	}
	text, err := resultYAML(results)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > MaxResultsSize {
		return
	}
	again, err := ParseReport([]byte(text))
	if err != nil {
		t.Fatalf("what was written cannot be read: %v\n%s", err, text)
	}
	if len(results)+len(again) > 0 && !cmp.Equal(results, again) {
		t.Errorf("written and read again it differs:\n%s", cmp.Diff(results, again))
	}
}
