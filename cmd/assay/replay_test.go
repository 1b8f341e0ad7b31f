package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
)

// runFrom runs assay run --from in this process and returns its exit code and
// what it wrote.
func runFrom(t *testing.T, in string, args ...string) (code int, out, said string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), append([]string{"run", "--from"}, args...), strings.NewReader(in), &o, &e)
	return code, o.String(), e.String()
}

func wants(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("it lacks %q:\n%s", part, text)
		}
	}
}

const reports = `name: reports
desc: reports what the host says
maintainer: test
matrix: {flavour: [plain, spicy]}
actions:
  - name: look
    shell:
      - echo ${flavour} ${item} ${uuid}; cat ${sources}/hello
  - name: report
    shell:
      - |
        outcome=$$(cat SWITCH)
        printf 'results:\n- {checkname: reports.a, outcome: %s}\n- {checkname: reports.b, outcome: PASSED}\n' $$outcome > out.yml
  - name: hand in
    resultsdb: {file: out.yml}
`

// TestReplay replays an execution of a server: of its own commit, although there
// are newer ones, with its variant, item and source; while the server runs and
// when it has ended.
func TestReplay(t *testing.T) {
	s := newSite(t, nil)
	outside := filepath.Join(s.dir, "switch")
	s.write(outside, "FAILED")
	s.commit("checks/hello", "main", map[string]string{"r/runtask.yml": strings.Replace(reports, "SWITCH", outside, 1)})
	commit := s.commit("rpms/hello", "main", map[string]string{"hello": "the source then"})
	s.start()
	event := s.build("1.0", commit).Event
	var x assay.Execution
	until(t, "the verdicts", func() bool {
		ended := 0
		for _, one := range s.executions(event) {
			if one.State == assay.StateFinished {
				ended++
			}
			if one.Variant == "flavour=spicy" {
				x = one
			}
		}
		return ended == 2
	})
	if x.Verdict != assay.VerdictFailed {
		t.Fatalf("%+v", x)
	}
	s.commit("checks/hello", "main", map[string]string{"r/runtask.yml": ""})
	s.commit("rpms/hello", "main", map[string]string{"hello": "the source now"})
	s.write(outside, "PASSED")

	address := strings.TrimSuffix(s.srv.url, "/")
	code, out, said := runFrom(t, "", x.ID, "--server", address, "--yes")
	if code != exitUsage {
		t.Errorf("a server named paths of this host, and it ended with %d: %s", code, out)
	}
	wants(t, said, "a server may name http, https and ssh addresses only", "--checks DIR")

	clones := []string{"--checks", s.bare("checks/hello"), "--sources", s.checkout("rpms/hello", commit)}
	code, out, said = runFrom(t, "", append([]string{address + "/executions/" + x.ID}, clones...)...)
	if code != exitOK {
		t.Errorf("it ended with %d", code)
	}
	wants(t, out, " 1 out spicy hello-1.0-1.fc42 "+x.ID+"\n", " 1 out the source then")
	wants(t, said, "changed  verdict: failed -> passed", "changed  exit code: 1 -> 0",
		"changed  reports.a of hello-1.0-1.fc42: FAILED -> PASSED", "same     1 more result\n")

	s.shutdown()
	s.write(outside, "FAILED")
	code, _, said = runFrom(t, "n\n", x.ID, "--data", s.cfg.Data)
	if code != exitUsage {
		t.Errorf("refused, it ended with %d", code)
	}
	wants(t, said, "the check ", s.bare("checks/hello"), "Fetch that and run it?", "nothing was fetched or run")
	code, out, said = runFrom(t, "y\n", x.ID, "--data", s.cfg.Data)
	if code != exitFailed {
		t.Errorf("it ended with %d", code)
	}
	wants(t, out, " 1 out the source then")
	wants(t, said, "same     verdict: failed\n", "same     2 more results")
	if left, err := filepath.Glob(filepath.Join(s.dir, "assay-replay-*")); len(left) > 0 || err != nil {
		t.Errorf("left behind: %v", left)
	}
}

// checkout is a directory with one commit of a repository.
func (s *site) checkout(name, commit string) string {
	s.t.Helper()
	dir := filepath.Join(s.dir, "checkout")
	s.git(s.dir, "clone", "-q", s.bare(name), dir)
	s.git(dir, "checkout", "-q", commit)
	return dir
}
