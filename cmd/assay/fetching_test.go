package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/checks"
	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/fetch/fetchtest"
	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/local"
)

// downloading is a configuration whose downloads come from a server of ours.
func downloading(t *testing.T) (*fetchtest.Server, config.Config) {
	t.Helper()
	s := fetchtest.New(t)
	s.Add(fetchtest.Build{Name: "hello", Version: "2.10", Release: "3.fc42", RPMs: []fetchtest.RPM{
		{Name: "hello", Arch: "x86_64", Data: fetchtest.RPMFile("hello for x86_64")},
		{Name: "hello", Arch: "src", Data: fetchtest.RPMFile("the source of hello")},
	}, Logs: map[string]string{"x86_64": "built\n"}})
	s.Updates["FEDORA-2026-1"] = fetchtest.Update{Builds: []string{"hello-2.10-3.fc42"}}
	s.Tags["f42-updates"], s.Tags["f42"] = nil, nil
	s.Files["rpms/hello/f42/hello.spec"] = "Name: hello\n"
	repos := filepath.Join(t.TempDir(), "yumrepoinfo.conf")
	if err := os.WriteFile(repos, []byte("[DEFAULT]\nbaseurl = https://mirror.example.org/linux\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.Data = t.TempDir()
	cfg.Fetch.KojiURL, cfg.Fetch.PkgURL, cfg.Fetch.Bodhi, cfg.Fetch.DistGit = s.Hub(), s.Packages(), s.Bodhi(), []string{s.DistGit()}
	cfg.Fetch.YumRepoInfo = repos
	return s, cfg
}

// runFormula runs a formula's actions on this machine and returns how it went,
// with the log.
func runFormula(t *testing.T, cfg config.Config, actions string) (assay.Conclusion, string) {
	t.Helper()
	fetcher, err := newFetcher(cfg, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f, err := checks.Parse("runtask.yml", []byte("name: downloads\ndesc: downloads and looks\nmaintainer: somebody\ninput: {args: [koji_build]}\nactions:\n"+actions))
	if err != nil {
		t.Fatal(err)
	}
	x := assay.Execution{ID: "0b6ff1a2-3a44-4a26-a1c7-9c6f0f5f3f10", Item: "hello-2.10-3.fc42", Type: assay.TypeBuild, Arch: "x86_64", Attempt: 1}
	plan, err := f.Plan(itemVars(x))
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	job := runner.Job{
		Execution: x, Plan: plan, Vars: itemVars(x), Log: &log, Artifacts: t.TempDir(),
		Trees: map[string]string{assay.VarWorkdir: t.TempDir()},
	}
	c, err := newRunner(cfg, local.Machines{Parent: t.TempDir()}, fetcher).Run(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	return c, log.String()
}

// Every directive that downloads brings its files to where its value says they
// are, and a second execution finds them on this host's disk.
func TestDownloadsReachTheMachine(t *testing.T) {
	s, cfg := downloading(t)
	const actions = `
  - name: the build
    koji: {action: download, koji_build: "${koji_build}", arch: all, src: True, build_log: True, target_dir: "${workdir}/build"}
    export: build
  - name: the update
    bodhi: {action: download, update_id: FEDORA-2026-1, arch: [x86_64], target_dir: update}
    export: update
  - name: the spec file
    distgit: {nvr: "${koji_build}", path: [hello.spec], localpath: [spec/of.hello]}
    export: spec
  - name: the repositories
    yumrepoinfo: {koji_tag: f42-updates-pending, arch: x86_64}
    export: repos
  - name: no stable build
    koji: {action: download_latest_stable, koji_build: "${koji_build}", arch: all, target_dir: stable}
    export: stable
  - name: look
    shell:
      - [cat, "${build.downloaded_rpms}", "${build.downloaded_logs}", "${update.downloaded_rpms}", "${spec.downloaded_files}"]
      - [echo, "${repos.f42.x86_64}", "stable is", "${stable}"]
      - ls build update spec
`
	for range 2 {
		c, log := runFormula(t, cfg, actions)
		if c.Verdict != assay.VerdictPassed {
			t.Fatalf("%s: %s\n%s", c.Verdict, c.Reason, log)
		}
		for _, want := range []string{
			"hello for x86_64", "the source of hello", "built", "Name: hello", "build.log.x86_64", "of.hello",
			"https://mirror.example.org/linux/releases/42/Everything/x86_64/os stable is {}",
		} {
			if !strings.Contains(log, want) {
				t.Errorf("the log does not hold %q:\n%s", want, log)
			}
		}
	}
	if n := s.Count(".rpm"); n != 2 {
		t.Errorf("2 packages were downloaded %d times: %q", n, s.Asked())
	}
}

// What is not to be had fails the check; what nobody can tell does not.
func TestDownloadsThatFail(t *testing.T) {
	s, cfg := downloading(t)
	download := func(build string) (assay.Conclusion, string) {
		return runFormula(t, cfg, "  - name: get it\n    koji: {action: download, koji_build: "+build+", arch: all}\n")
	}
	if c, log := download("hello-9-9.fc42"); c.Verdict != assay.VerdictFailed || c.Retry || !strings.Contains(c.Reason, "Koji does not know it") {
		t.Errorf("an unknown build: %+v\n%s", c, log)
	}
	s.Builds["hello-2.10-3.fc42"].RPMs[0].Arch = "../../x"
	if c, log := download("hello-2.10-3.fc42"); c.Verdict != assay.VerdictErrored || !c.Retry {
		t.Errorf("a hub that makes no sense: %+v\n%s", c, log)
	}
	cfg.Fetch = config.Default().Fetch
	if c, log := download("hello-2.10-3.fc42"); c.Verdict != assay.VerdictFailed || !strings.Contains(c.Reason, "set fetch.koji_url in the configuration") {
		t.Errorf("without an address: %+v\n%s", c, log)
	}
}

func TestYumRepoInfoMistakes(t *testing.T) {
	_, cfg := downloading(t)
	if err := os.WriteFile(cfg.Fetch.YumRepoInfo, []byte("baseurl = x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newFetcher(cfg, ""); err == nil || !strings.Contains(err.Error(), "line 1: cannot read") {
		t.Errorf("%v", err)
	}
	cfg.Fetch.YumRepoInfo += ".none"
	if _, err := newFetcher(cfg, ""); err == nil || !strings.Contains(err.Error(), "cannot read fetch.yumrepoinfo") {
		t.Errorf("%v", err)
	}
}

// assay run asks what the user's own configuration says.
func TestUserFetcher(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	if _, err := userFetcher(config.Default()); err != nil {
		t.Errorf("without a file: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "assay"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "assay", "assay.yml")
	for text, want := range map[string]string{
		"fetch: {bodhi_url: 'https://bodhi.example.org'}": "",
		"fetch: {bodhi_url: bodhi}":                       "fetch.bodhi_url",
		"fetch: {yumrepoinfo: none.conf}":                 dir + "/assay/none.conf",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := userFetcher(config.Default())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestBuildsOfAnEvent has two checks look at what a build made: it is downloaded
// once for both, and again for the replay of one of them.
func TestBuildsOfAnEvent(t *testing.T) {
	var mu sync.Mutex
	sent := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		sent[r.URL.Path]++
		_, _ = fmt.Fprintf(w, "what is at %s\n", r.URL.Path)
	}))
	t.Cleanup(server.Close)
	s := newSite(t, func(c *config.Config) { c.Builds.From = []string{server.URL + "/packages"} })
	s.commit("checks/hello", "main", map[string]string{
		"a/runtask.yml": formula("a", `grep "what is at /packages/1/hello.rpm" ${builds}/hello.rpm && test -s ${builds}/hello-doc.rpm`),
		"b/runtask.yml": formula("b", `test -s ${builds}/hello.rpm`),
	})
	commit := s.commit("rpms/hello", "main", map[string]string{"hello": "x"})
	s.start()
	made := buildEvent{Package: "rpms/hello", Version: "1.0", Release: "1.fc42", Commit: commit, BuildID: "b-1"}
	made.Artifacts = []string{server.URL + "/packages/1/hello.rpm", server.URL + "/packages/1/hello-doc.rpm"}
	list := s.executions(s.post("build", "build-1", made).Event)
	s.wantVerdicts(list, "a passed, b passed")
	made.BuildID, made.Artifacts = "b-2", []string{server.URL + "/private/hello.rpm"}
	made.Version = "1.1"
	for _, x := range s.executions(s.post("build", "build-2", made).Event) {
		if x.Verdict != assay.VerdictErrored || !strings.Contains(x.Reason, "builds.from") || x.Attempt != 1 {
			t.Errorf("%s %s in attempt %d: %s", x.Label(), x.Verdict, x.Attempt, x.Reason)
		}
	}
	s.shutdown()
	code, _, said := runFrom(t, "", byLabel(list)["a"].ID, "--data", s.cfg.Data, "--yes")
	if code != exitOK {
		t.Errorf("the replay ended with %d", code)
	}
	wants(t, said, server.URL+"/packages/1/hello-doc.rpm", "same     verdict: passed\n")
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(map[string]int{"/packages/1/hello.rpm": 2, "/packages/1/hello-doc.rpm": 2}, sent); diff != "" {
		t.Errorf("(-want +sent)\n%s", diff)
	}
}
