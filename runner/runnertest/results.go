package runnertest

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/resulttool"
)

// Main is what TestMain calls where machines get the test binary itself as the
// program that is assay result: called by such a name it is that command.
func Main(m *testing.M) {
	if args, ok := resulttool.Called(os.Args); ok {
		os.Exit(resulttool.Run(args, os.Getenv, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// severalResults reports from eight processes at a time, under both names, from a
// shell and without one.
func severalResults(t *testing.T, m runner.Machine) {
	const processes, each = 8, 5
	script := fmt.Sprintf(`for p in $(seq %d); do
  ( for n in $(seq %d); do
      if [ $((n %% 2)) = 0 ]; then set -- assay result; else set -- taskotron_result; fi
      "$@" -f reported.yml -o passed -c ".p$p.n$n" -n "$(printf 'two\nlines "%%s"' $p)" -k "n=$n" || echo "exit $?"
    done ) &
done; wait; cat reported.yml`, processes, each)
	env := []string{"ASSAY_ITEM=an item", "ASSAY_TYPE=koji_build"}
	got := run(t, m, runner.Command{Argv: []string{"/bin/sh", "-c", script}, Env: env})
	rest, ok := strings.CutPrefix(got.stdout, "results:\n")
	if !ok || got.exit != 0 || got.stderr != "" {
		t.Fatalf("got %+v", got)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(rest) {
		var result map[string]string
		if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "- ")), &result); err != nil {
			t.Errorf("no result: %q: %v", line, err)
		}
		if result["item"] != "an item" || result["outcome"] != "PASSED" || !strings.HasPrefix(result["note"], "two\nlines") {
			t.Errorf("the result is %v", result)
		}
		seen[result["checkname"]] = true
	}
	if len(seen) != processes*each {
		t.Errorf("%d of %d results are there", len(seen), processes*each)
	}
	if got := run(t, m, runner.Command{Argv: []string{resulttool.OldName, "-o", "GOOD"}, Env: env}); got.exit != 2 || !strings.Contains(got.stderr, "PASSED, INFO") {
		t.Errorf("a wrong outcome gave %+v", got)
	}
	own := append([]string{"PATH=/usr/bin:/bin"}, env...)
	for _, argv := range [][]string{{"assay", "result", "-f", "own.yml", "-o", "PASSED"}, {"/bin/sh", "-c", "assay result -f own.yml -o PASSED"}} {
		if got := run(t, m, runner.Command{Argv: argv, Env: own}); got.exit != 0 {
			t.Errorf("with a PATH of its own %q gave %+v", argv, got)
		}
	}
}
