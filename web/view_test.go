package web

import (
	"math"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-ci/assay"
)

func TestHuman(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0 ms", 0: "0 ms", 120 * time.Millisecond: "120 ms", 994 * time.Millisecond: "994 ms", 996 * time.Millisecond: "1.0 s",
		4200 * time.Millisecond: "4.2 s", 9960 * time.Millisecond: "10 s", 59400 * time.Millisecond: "59 s", 59600 * time.Millisecond: "1 min 00 s",
		65 * time.Second: "1 min 05 s", 59*time.Minute + 59*time.Second: "59 min 59 s", time.Hour - time.Millisecond: "1 h 00 min",
		2*time.Hour + 3*time.Minute: "2 h 03 min", 50 * time.Hour: "50 h 00 min",
	} {
		if got := human(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestSizeAndCount(t *testing.T) {
	for n, want := range map[int64]string{-1: "0 B", 0: "0 B", 999: "999 B", 1000: "1.0 kB", 16384: "16 kB", 999_600: "1.0 MB", 104_857_600: "105 MB", 3_200_000_000: "3.2 GB", math.MaxInt64: "9223372 TB"} {
		if got := size(n); got != want {
			t.Errorf("size %d: %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000"} {
		if got := count(n); got != want {
			t.Errorf("count %d: %q, want %q", n, got, want)
		}
	}
}

func TestRelative(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "21 Nov 2026, 18:20", -time.Second: "just now", 5 * time.Second: "just now", 30 * time.Second: "30 s ago", 90 * time.Second: "1 min ago",
		3 * time.Hour: "3 h ago", 50 * time.Hour: "2 days ago", 40 * 24 * time.Hour: "12 Oct 2026",
	} {
		if got := relative(d, noon.Add(-d)); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestAddressesShowNoPassword(t *testing.T) {
	for raw, want := range map[string]address{
		"https://bot:hunter2@git.example.org/x.git": {"https://git.example.org/x.git", "git.example.org/x.git", "https://git.example.org/x.git"},
		"https://token@git.example.org/x.git":       {"https://git.example.org/x.git", "git.example.org/x.git", "https://git.example.org/x.git"},
		"ssh://git:hunter2@git.example.org/x":       {"ssh://git@git.example.org/x", "ssh://git@git.example.org/x", ""},
		"/srv/git/x.git":                            {"/srv/git/x.git", "/srv/git/x.git", ""},
		"javascript:alert(1)":                       {"javascript:alert(1)", "javascript:alert(1)", ""},
		"https:///nowhere":                          {"https:///nowhere", "https:///nowhere", ""},
		"owner/name":                                {"owner/name", "owner/name", ""},
		"":                                          {},
	} {
		if diff := cmp.Diff(want, showAddress(raw)); diff != "" {
			t.Errorf("%q:\n%s", raw, diff)
		}
	}
}

func TestCommitsAreLinkedWhereTheAddressIsKnown(t *testing.T) {
	for repo, want := range map[string]string{
		"https://github.com/example/hello.git": "https://github.com/example/hello/commit/" + goodCommit,
		"https://github.com/example/hello/":    "https://github.com/example/hello/commit/" + goodCommit,
		"https://git.example.org/hello.git":    "",
		"/srv/git/hello.git":                   "",
	} {
		if got := showCommit(repo, goodCommit, 0).Link; got != want {
			t.Errorf("%s: %q, want %q", repo, got, want)
		}
	}
}

func TestLocalCommands(t *testing.T) {
	e := hello(idPassed, "1.0-1", goodCommit)
	want := "git clone -- https://git.example.org/checks/hello.git checks-hello\n" +
		"git -C checks-hello checkout --detach " + checksSHA + "\n" +
		"git clone -- " + e.SourceRepo + " source-hello\n" +
		"git -C source-hello checkout --detach " + goodCommit + "\n" +
		"assay run checks-hello/greets/runtask.yml -i hello-1.0-1.fc42 -t koji_build -a x86_64 --sources source-hello --builds DIRECTORY-OF-THE-BUILDS --vm"
	if diff := cmp.Diff(want, localCommands(e)); diff != "" {
		t.Error(diff)
	}
	e.Variant = "image=fedora-42,python=3.12 $(id)"
	if got := localCommands(e); !strings.Contains(got, " -a x86_64 --var image=fedora-42 --var 'python=3.12 $(id)' --sources") {
		t.Errorf("of a variant:\n%s", got)
	}
	e.Variant = ""
	e.Needs = []assay.Need{{Check: "build"}}
	if got := localCommands(e); !strings.Contains(got, "\nassay run checks-hello --check pkg.greets -i hello-1.0-1.fc42 -t") {
		t.Errorf("of one that needs another:\n%s", got)
	}
	e.Needs, e.Path, e.Check = nil, "debian/tests/control", "dep8.it's"
	if got := localCommands(e); !strings.Contains(got, `
assay run checks-hello --check 'dep8.it'\''s' -i hello-1.0-1.fc42 -t`) {
		t.Errorf("of one of several in a file:\n%s", got)
	}
	for _, item := range []string{"a\nrm -rf ~", "a\x1b[2K", "a\u202eb", "a\uFFFDb", ""} {
		e.Item = item
		if got := localCommands(e); got != "" {
			t.Errorf("%q: commands that are not what they look like:\n%s", item, got)
		}
	}
	e.Item, e.ChecksCommit = "x", "--upload-pack=evil"
	if got := localCommands(e); strings.Contains(got, "evil") {
		t.Errorf("an option as a commit:\n%s", got)
	}
}

// TestQuotedWordsAreOneWord asks a real shell.
func TestQuotedWordsAreOneWord(t *testing.T) {
	for _, word := range []string{"plain", "", "two words", "it's", "$(id)", "`id`", "a;b|c&d", "~root", "*", `back\slash`, "#no", "!x", "-n", "ü"} {
		out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", "printf '<%s>' "+quote(word)).Output()
		if err != nil || string(out) != "<"+word+">" {
			t.Errorf("%q became %q, %v", word, out, err)
		}
	}
}

func TestChips(t *testing.T) {
	for _, c := range []struct {
		e    assay.Execution
		want chip
	}{
		{assay.Execution{State: assay.StateQueued}, chip{"queued", "queued"}},
		{assay.Execution{State: assay.StateRunning}, chip{"running", "running"}},
		{assay.Execution{State: assay.StateFinished, Verdict: assay.VerdictPassed}, chip{"passed", "passed"}},
		{assay.Execution{State: assay.StateFinished, Verdict: assay.VerdictCrashed}, chip{"crashed", "crashed"}},
		{assay.Execution{State: assay.StateFinished}, chip{"errored", "no verdict"}},
	} {
		if got := executionChip(c.e); got != c.want {
			t.Errorf("%+v: %v", c.e, got)
		}
	}
	icons, err := os.ReadFile("templates/parts.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range append(assay.Outcomes(), "", "SOMETHING_ELSE") {
		if class := outcomeChip(o).Class; !strings.Contains(string(icons), `id="i-`+class+`"`) {
			t.Errorf("%s has no symbol: %q", o, class)
		}
	}
}

// TestContrast holds every pair of text and background of the style sheet to
// WCAG AA, in both palettes.
func TestContrast(t *testing.T) {
	css, err := os.ReadFile("static/style.css")
	if err != nil {
		t.Fatal(err)
	}
	light, dark, ok := strings.Cut(string(css), "@media (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("the style sheet has no dark palette")
	}
	for name, part := range map[string]string{"light": light, "dark": dark} {
		colours := map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z0-9-]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(part, -1) {
			colours[m[1]] = m[2]
		}
		for _, p := range pairs() {
			if got := contrast(t, colours[p[0]], colours[p[1]]); got < 4.5 {
				t.Errorf("%s: %s on %s has a contrast of %.2f, less than 4.5", name, p[0], p[1], got)
			}
		}
	}
}

func pairs() [][2]string {
	var all [][2]string
	for _, back := range []string{"page", "card", "sunk"} {
		for _, text := range []string{"ink", "soft", "link", "passed", "failed", "crashed", "errored", "cancelled", "skipped", "queued", "running", "info"} {
			all = append(all, [2]string{text, back})
		}
	}
	for _, v := range []string{"passed", "failed", "crashed", "errored", "cancelled", "skipped", "queued", "running", "info"} {
		all = append(all, [2]string{v, v + "-bg"})
	}
	for _, text := range []string{"err", "c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "ink", "soft"} {
		for _, back := range []string{"card", "sunk", "hit"} {
			all = append(all, [2]string{text, back})
		}
	}
	return all
}

func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	la, lb := luminance(t, a), luminance(t, b)
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	if len(colour) != 7 {
		t.Fatalf("%q is no colour", colour)
	}
	var l float64
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(colour[1+2*i:3+2*i], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		l += weight * c
	}
	return l
}
