package hooks

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkPush is a push of 1,000 files, 100 of them formulas, to a repository on
// this machine: by git alone, and with the pre-receive hook of the real program
// before it. Both take turns, so that what else the machine does falls on both.
// git-ms and hook-ms are the medians of the whole push, ours-ms the median of the
// differences: what the hook adds, which is to be at most 100. The program is
// bin/assay, which make build makes.
func BenchmarkPush(b *testing.B) {
	exe, err := filepath.Abs("../bin/assay")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := os.Stat(exe); err != nil {
		b.Fatalf("%v: make build makes it", err)
	}
	src := benchSource(b)
	var plain, hooked, ours []time.Duration
	for b.Loop() {
		p := benchPush(b, src, "")
		h := benchPush(b, src, exe)
		plain, hooked, ours = append(plain, p), append(hooked, h), append(ours, h-p)
	}
	b.ReportMetric(0, "ns/op")
	for name, all := range map[string][]time.Duration{"git-ms": plain, "hook-ms": hooked, "ours-ms": ours} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, name)
	}
}

// benchSource makes 100 checks of a formula and nine other files each.
func benchSource(b *testing.B) string {
	src := newRepo(b)
	formula := `name: check-%d
desc: tries the program
maintainer: somebody
input:
  args: [koji_build]
actions:
  - name: run it
    shell:
      - echo %d
      - sh ./test1.sh
`
	for i := range 100 {
		dir := filepath.Join(src, fmt.Sprintf("check-%03d", i))
		put(b, filepath.Join(dir, "runtask.yml"), fmt.Sprintf(formula, i, i), 0o644)
		for f := range 9 {
			put(b, filepath.Join(dir, fmt.Sprintf("test%d.sh", f)), fmt.Sprintf("#!/bin/sh\n# %d\nexit 0\n", 9*i+f), 0o755)
		}
	}
	git(b, src, "add", "-A")
	git(b, src, "commit", "-q", "-m", "1,000 files")
	return src
}

// benchPush measures one push to a fresh repository.
func benchPush(b *testing.B, src, exe string) time.Duration {
	b.Helper()
	bare := newRepo(b, "--bare")
	if exe != "" {
		o := options(b, bare, "http://127.0.0.1:1")
		o.Exe = exe
		if err := Install(o); err != nil {
			b.Fatal(err)
		}
		if err := os.Remove(filepath.Join(bare, "hooks", "post-receive")); err != nil {
			b.Fatal(err)
		}
	}
	begun := time.Now()
	git(b, src, "push", "-q", bare, "main")
	return time.Since(begun)
}
