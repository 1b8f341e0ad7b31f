package web

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-ci/assay"
)

func TestParseLogLine(t *testing.T) {
	at := time.Date(2026, 11, 21, 17, 15, 10, 123e6, time.UTC)
	const stamp = "2026-11-21T17:15:10.123Z"
	for _, c := range []struct {
		line string
		want logLine
	}{
		{stamp + " 2 out Hello, world!", logLine{at, 2, "out", []byte("Hello, world!")}},
		{stamp + " 0 run boot", logLine{at, 0, "run", []byte("boot")}},
		{stamp + " 12 err  two  spaces ", logLine{at, 12, "err", []byte(" two  spaces ")}},
		{stamp + " 1 out ", logLine{at, 1, "out", []byte("")}},
		{stamp + " 1 out", logLine{at, 1, "out", nil}},
		{stamp + " 1 out \xff\xfe", logLine{at, 1, "out", []byte("\xff\xfe")}},
		{"", logLine{Text: []byte("")}},
		{"just words", logLine{Text: []byte("just words")}},
		{stamp, logLine{Text: []byte(stamp)}},
		{stamp + " -1 out x", logLine{Text: []byte(stamp + " -1 out x")}},
		{stamp + " 1234567 out x", logLine{Text: []byte(stamp + " 1234567 out x")}},
		{stamp + " 1 log x", logLine{Text: []byte(stamp + " 1 log x")}},
		{stamp + "  1 out x", logLine{Text: []byte(stamp + "  1 out x")}},
		{"2026-13-41T17:15:10.123Z 1 out x", logLine{Text: []byte("2026-13-41T17:15:10.123Z 1 out x")}},
	} {
		if diff := cmp.Diff(c.want, parseLogLine([]byte(c.line))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.line, diff)
		}
		if step := lineStep([]byte(c.line)); c.want.Stream != "" && step != c.want.Step {
			t.Errorf("%q: the index sees step %d", c.line, step)
		}
	}
}

func textHTML(text string) string {
	var b strings.Builder
	writeText(&b, []byte(text))
	return b.String()
}

func TestTextOfALine(t *testing.T) {
	for text, want := range map[string]string{
		"plain":                               "plain",
		"<b>&\"'":                             "&lt;b&gt;&amp;&#34;&#39;",
		"tab\there":                           "tab\there",
		"bell\a nul\x00 del\x7f":              "bell␇ nul␀ del␡",
		"bad \xff\xfe end":                    "bad \uFFFD\uFFFD end",
		"c1 \u0085 and \u202e reversed":       "c1 \uFFFD and \uFFFD reversed",
		"10%\r20%\r100%\r":                    "10%\n20%\n100%",
		"\x1b[31mred\x1b[0m plain":            `<span class="c1">red</span> plain`,
		"\x1b[1;4;92mall\x1b[22mless":         `<span class="sb su c10">all</span><span class="su c10">less</span>`,
		"\x1b[mnothing":                       "nothing",
		"\x1b[31;39mback":                     "back",
		"\x1b[2;3mdim\x1b[23;24;22m":          `<span class="sd si">dim</span>`,
		"\x1b[38;5;1mnear\x1b[38;5;200mfar":   `<span class="c1">nearfar</span>`,
		"\x1b[38;2;1;2;3;1mbold":              `<span class="sb">bold</span>`,
		"\x1b[48;5;1mbackground":              "background",
		"\x1b[38mcut\x1b[38;2;1mshort":        "cutshort",
		"\x1b[2K\x1b[10;20Hmoved":             "moved",
		"\x1b]0;title\x07shown":               "shown",
		"\x1b]8;;https://x\x1b\\link\x1b]8;;": "link8;;",
		"\x1b]0;never ended <script>":         "0;never ended &lt;script&gt;",
		"\x1b[31":                             "",
		"\x1b[31\x01<i>":                      "␁&lt;i&gt;",
		"\x1b":                                "",
		"\x1b\x1b[31mred":                     `<span class="c1">red</span>`,
		"\x1b(Bcharset":                       "Bcharset",
	} {
		if got := textHTML(text); got != want {
			t.Errorf("%q:\n got %q\nwant %q", text, got, want)
		}
	}
}

func TestClock(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0:00.00", 4210 * time.Millisecond: "0:04.21", 65 * time.Second: "1:05.00",
		time.Hour + 2*time.Minute + 3*time.Second: "1:02:03.00", -time.Second: "-0:01.00",
	} {
		if got := clock(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// tags is every tag that the renderer may write.
var tags = regexp.MustCompile(`<div class="l(?: out| err| run)?(?: hit)?" id="L\d+"><a href="[^"<>]*#L\d+">\d+</a><time(?: datetime="[-0-9T:.Z+]+")?>[-0-9:.]*</time><b>(?:err|run)?</b><span>|` +
	`<span class="[a-z0-9 ]+">|</span></div>\n|</span>|<i> … [\d,]+ more bytes in the raw log</i>`)

func FuzzLogLine(f *testing.F) {
	for _, seed := range []string{
		"2026-11-21T17:15:10.123Z 2 out Hello", "2026-11-21T17:15:10.123Z 0 run run step 1: x", "", " ", "\n", "<script>", "\x1b[31m<\x1b[0m",
		"2026-11-21T17:15:10.123Z 1 err \x1b[1;38;5;3m\x1b]0;<\x07\xff\x00", "\x1b[38;2;", "9999-99-99T99:99:99Z 1 out x", "\u202e\u2066\r\r\n",
		"10000-01-01T00:00:00Z 1 out x", "0000-01-01T00:00:00Z 0 out", "2026-11-21T17:15:10.123+23:59 1 out x",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		parsed := parseLogLine(line)
		if len(parsed.Text) > len(line) || parsed.Step < 0 {
			t.Fatalf("%q: %+v", line, parsed)
		}
		page := string(logHTML([]logRow{{Number: 7, Line: parsed, Cut: 3}}, "/executions/x/log?", 7, noon))
		if rest := tags.ReplaceAllString(page, ""); strings.ContainsAny(rest, "<>\"'\x1b\x00") {
			t.Fatalf("%q renders as %q, which leaves %q", line, page, rest)
		}
		if opened, closed := strings.Count(page, "<span"), strings.Count(page, "</span>"); opened != closed {
			t.Fatalf("%q: %d spans opened, %d closed", line, opened, closed)
		}
	})
}

// bigLog writes a log of the given size and returns its number of lines.
func bigLog(t *testing.T, w *world, size int64) (lines int64) {
	t.Helper()
	w.executions = append(w.executions, assay.Execution{ID: idBig, Package: "rpms/big", Check: "prints", Item: "big-1-1", Type: assay.TypeBuild,
		Attempt: 1, State: assay.StateFinished, Verdict: assay.VerdictFailed, Reason: "Step 1, prints, exited with 1"})
	w.steps = map[string][]assay.StepRun{idBig: {step(1, 1, "prints", 0, 10, "failed")}}
	w.write(idBig, "log-1", "")
	f, err := os.OpenFile(w.path(idBig, "log-1"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := bufio.NewWriterSize(f, 1<<20)
	for written := int64(0); written < size; lines++ {
		n, err := fmt.Fprintf(b, "2026-11-21T17:15:10.123Z 1 out this is line %d of a check that prints a great deal of what nobody reads\n", lines+1)
		if err != nil {
			t.Fatal(err)
		}
		written += int64(n)
	}
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// allocated is how many bytes f allocates, freed ones included.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestHundredMegabytes(t *testing.T) {
	w := newWorld(t)
	lines := bigLog(t, w, 100<<20)
	router := w.router(t)
	address := "/executions/" + idBig
	for _, c := range []struct {
		target, want string
	}{
		{address + "/log", `id="L1"`},
		{address + "/log?from=5001", `id="L5001"`},
		{fmt.Sprintf("%s/log?line=%d", address, lines/2), fmt.Sprintf(`class="l out hit" id="L%d"`, lines/2)},
		{address + "/log?from=end", fmt.Sprintf(`id="L%d"`, lines)},
		{address, fmt.Sprintf(`id="L%d"`, lines)},
	} {
		var r *httptest.ResponseRecorder
		spent := allocated(func() { r = get(t, router, c.target) })
		page := wantStatus(t, r, http.StatusOK)
		if !strings.Contains(page, c.want) {
			t.Errorf("%s lacks %s", c.target, c.want)
		}
		if len(page) > 4<<20 || spent > 32<<20 {
			t.Errorf("%s: a page of %d bytes, for which %d bytes were allocated", c.target, len(page), spent)
		}
	}
	r := get(t, router, address+"/log.txt", "Range", "bytes=0-9")
	if got := wantStatus(t, r, http.StatusPartialContent); got != "2026-11-21" {
		t.Errorf("range: %q", got)
	}
}

func TestEveryLineIsOnOnePage(t *testing.T) {
	w := newWorld(t)
	lines := bigLog(t, w, 4<<20)
	walkPages(t, w.router(t), "/executions/"+idBig+"/log", lines)
}

// walkPages follows "next" from the first page to the last.
func walkPages(t *testing.T, h http.Handler, target string, lines int64) {
	t.Helper()
	numbers := regexp.MustCompile(`id="L(\d+)"`)
	next := regexp.MustCompile(`href="([^"]+)" rel="next"`)
	want := int64(1)
	for pages := 0; ; pages++ {
		page := wantStatus(t, get(t, h, target), http.StatusOK)
		for _, m := range numbers.FindAllStringSubmatch(page, -1) {
			if m[1] != fmt.Sprint(want) {
				t.Fatalf("%s: line %s where %d should be", target, m[1], want)
			}
			want++
		}
		m := next.FindStringSubmatch(page)
		if m == nil {
			break
		}
		target = strings.ReplaceAll(m[1], "&amp;", "&")
	}
	if want != lines+1 {
		t.Errorf("saw %d lines of %d", want-1, lines)
	}
}

func TestLogIndexFollowsAGrowingFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	x := newIndexes()
	for i, c := range []struct {
		add  string
		want []string // the lines there are then
	}{
		{"", nil},
		{"a\nb", []string{"a", "b"}},
		{"c\n", []string{"a", "bc"}},
		{"\n", []string{"a", "bc", ""}},
		{"d\n", []string{"a", "bc", "", "d"}},
	} {
		if _, err := f.WriteString(c.add); err != nil {
			t.Fatal(err)
		}
		scan, err := x.of(t.Context(), "k", f)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := scan.tail(f, -1, 100)
		if err != nil {
			t.Fatal(err)
		}
		pageRows, err := scan.rows(f, scan.page(1))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(pageRows, rows); diff != "" && len(rows)+len(pageRows) > 0 {
			t.Errorf("%d: the page and the tail differ:\n%s", i, diff)
		}
		if diff := cmp.Diff(c.want, texts(rows)); diff != "" || scan.lines != int64(len(c.want)) {
			t.Errorf("%d: %d lines\n%s", i, scan.lines, diff)
		}
	}
}

func texts(rows []logRow) (texts []string) {
	for i, r := range rows {
		if r.Number != int64(i)+1 {
			return []string{fmt.Sprintf("line %d has number %d", i+1, r.Number)}
		}
		texts = append(texts, string(r.Line.Text))
	}
	return texts
}

func TestLogIndexSeesAnotherFile(t *testing.T) {
	dir, x := t.TempDir(), newIndexes()
	for i, content := range []string{"one\ntwo\nthree\n", "only\n"} {
		file := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		scan, err := x.of(t.Context(), "k", f)
		if err != nil || scan.lines != int64(strings.Count(content, "\n")) {
			t.Errorf("%q: %d lines, %v", content, scan.lines, err)
		}
		f.Close()
	}
}

func TestIndexesAreForgotten(t *testing.T) {
	x := newIndexes()
	for i := range 3 * maxIndexes {
		x.entry(fmt.Sprint(i))
	}
	if len(x.byKey) != maxIndexes || len(x.order) != maxIndexes {
		t.Errorf("%d indexes are kept, %d are in the order", len(x.byKey), len(x.order))
	}
}

func TestPagesOfLongLinesAreBounded(t *testing.T) {
	w := newWorld(t)
	bigLog(t, w, 0)
	w.write(idBig, "log-1", strings.Repeat("2026-11-21T17:15:10.123Z 1 out "+strings.Repeat("<", 60<<10)+"\n", 100)+strings.Repeat("x", 3<<20))
	router := w.router(t)
	page := wantStatus(t, get(t, router, "/executions/"+idBig+"/log"), http.StatusOK)
	if len(page) > 6<<20 {
		t.Errorf("a page of %d bytes", len(page))
	}
	page = wantStatus(t, get(t, router, "/executions/"+idBig+"/log?from=end"), http.StatusOK)
	wantContains(t, page[len(page)-3000:], "more bytes in the raw log")
	walkPages(t, router, "/executions/"+idBig+"/log", 101)
	wantStatus(t, get(t, router, "/executions/"+idBig), http.StatusOK)
}

func TestStepsAreFoundInTheLog(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	page := get(t, w.router(t), "/executions/"+idFailed+"/log").Body.String()
	wantContains(t, page, `href="/executions/`+idFailed+`/log?line=3#L3"`, `href="/executions/`+idFailed+`/log?line=26#L26"`)
}

func TestLogOfAnEarlierAttempt(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	w.write(idErrored, "log-1", "2026-11-21T16:10:00.000Z 0 run the first attempt\n")
	router := w.router(t)
	page := wantStatus(t, get(t, router, "/executions/"+idErrored+"/log?attempt=1"), 200)
	wantContains(t, page, "the first attempt", "Log of attempt 1", "log.txt?attempt=1")
	if got := get(t, router, "/executions/"+idErrored+"/log.txt?attempt=1").Body.String(); !strings.Contains(got, "the first attempt") {
		t.Errorf("raw: %q", got)
	}
	page = wantStatus(t, get(t, router, "/executions/"+idErrored+"/log?attempt=2"), 200)
	wantContains(t, page, "There is no log")
}

func TestUnfinishedLogsAreLoadedAnew(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	router := w.router(t)
	const refresh = `<meta http-equiv="refresh" content="3">`
	for target, want := range map[string]bool{
		"/executions/" + idRunning: true, "/executions/" + idRunning + "/log": true, "/executions/" + idQueued: true, "/executions/" + idQueued + "/log": true,
		"/executions/" + idFailed: false, "/executions/" + idFailed + "/log": false, "/events/" + eventNew: true, "/events/" + eventIgnored: false, "/events/" + eventBuild: true,
	} {
		if got := strings.Contains(get(t, router, target).Body.String(), refresh); got != want {
			t.Errorf("%s is loaded anew: %v, want %v", target, got, want)
		}
	}
}

func TestRawLogRanges(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	router, target := w.router(t), "/executions/"+idFailed+"/log.txt"
	whole := failedLog()
	r := get(t, router, target)
	if got := wantStatus(t, r, 200); got != whole || r.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("%s: %q", r.Header().Get("Content-Type"), got)
	}
	for span, want := range map[string]string{"bytes=5-9": whole[5:10], "bytes=-12": whole[len(whole)-12:], "bytes=100-": whole[100:]} {
		if got := wantStatus(t, get(t, router, target, "Range", span), http.StatusPartialContent); got != want {
			t.Errorf("%s: %q, want %q", span, got, want)
		}
	}
	r = get(t, router, target, "Range", "bytes=99999999-")
	wantStatus(t, r, http.StatusRequestedRangeNotSatisfiable)
	checkGuards(t, r.Result(), "a range that is not there")
}
