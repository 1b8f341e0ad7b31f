package source_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/fetch"
	"github.com/assay-ci/assay/fetch/fetchtest"
	"github.com/assay-ci/assay/fetch/source"
	"github.com/assay-ci/assay/fetch/yumrepo"
)

// site is a server of everything with a source that asks it.
type site struct {
	*fetchtest.Server
	t      *testing.T
	config source.Config
	lines  []string
	mu     sync.Mutex
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{Server: fetchtest.New(t), t: t}
	rpm := func(name, arch string) fetchtest.RPM {
		return fetchtest.RPM{Name: name, Arch: arch, Data: fetchtest.RPMFile("header and payload of " + name + " for " + arch)}
	}
	s.Add(fetchtest.Build{Name: "hello", Version: "2.10", Release: "3.fc42", RPMs: []fetchtest.RPM{
		rpm("hello", "x86_64"), rpm("hello", "i686"), rpm("hello", "aarch64"), rpm("hello", "src"), rpm("hello-doc", "noarch"),
		rpm("hello-debuginfo", "x86_64"), rpm("hello-debugsource", "x86_64"), rpm("hello-debuginfo-common", "i686"),
	}, Logs: map[string]string{"x86_64": "built\n", "noarch": "built too\n"}})
	s.Add(fetchtest.Build{Name: "hello", Version: "2.9", Release: "1.fc42", RPMs: []fetchtest.RPM{rpm("hello", "x86_64")}})
	s.Add(fetchtest.Build{Name: "g++-tools", Version: "1~rc1^git%2", Release: "1.fc42", RPMs: []fetchtest.RPM{rpm("g++-tools", "x86_64")}})
	s.Tags["f42-updates"] = []string{}
	s.Tags["f42"] = []string{"hello-2.9-1.fc42"}
	s.Tags["f42-updates-pending"] = []string{"hello-2.10-3.fc42", "g++-tools-1~rc1^git%2-1.fc42"}
	s.Tags["f43"], s.Tags["f43-updates"] = nil, nil
	s.Updates["FEDORA-2017-04459ef8cf"] = fetchtest.Update{Builds: []string{"hello-2.10-3.fc42", "g++-tools-1~rc1^git%2-1.fc42"}}
	s.Updates["FEDORA-FLATPAK-1"] = fetchtest.Update{Builds: []string{"hello-2.10-3.fc42"}, Type: "flatpak"}
	s.Files["rpms/hello/f42/hello.spec"] = "Name: hello\n"
	s.Files["rpms/hello/f42/tests/a b.yml"] = "tests\n"
	s.Files["rpms/hello/rawhide/hello.spec"] = "Name: hello of rawhide\n"
	repos, err := yumrepo.Parse(yumrepo.Builtin, "[DEFAULT]\nbaseurl = https://mirror.example.org/linux\n")
	if err != nil {
		t.Fatal(err)
	}
	s.config = source.Config{
		Web:     &fetch.Web{HTTP: s.Client(), Pauses: make([]time.Duration, 3)},
		Cache:   &fetch.Cache{Dir: filepath.Join(t.TempDir(), "cache")},
		KojiHub: s.Hub(), Packages: s.Packages(), Bodhi: s.Server.Bodhi(), DistGit: []string{s.Server.DistGit(), s.URL + "/other"},
		Repos: repos,
	}
	return s
}

// fetch asks a new source and returns the value and what is in the directory.
func (s *site) fetch(f assay.Fetch) (any, map[string]string, error) {
	s.t.Helper()
	return s.fetchWith(s.t.Context(), source.New(s.config), f)
}

func (s *site) fetchWith(ctx context.Context, from *source.Source, f assay.Fetch) (any, map[string]string, error) {
	s.t.Helper()
	dir := s.t.TempDir()
	if f.Dir == "" {
		f.Dir = "/run/check"
	}
	value, err := from.Fetch(ctx, f, dir, func(line string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lines = append(s.lines, line)
	})
	got := map[string]string{}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	more, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
	for _, file := range append(files, more...) {
		if info, err := os.Stat(file); err != nil || info.IsDir() {
			continue
		}
		name, _ := filepath.Rel(dir, file)
		data, err := os.ReadFile(file)
		if err != nil {
			s.t.Fatal(err)
		}
		got[filepath.ToSlash(name)] = string(data)
	}
	return value, got, err
}

func names(files map[string]string) []string {
	var list []string
	for name := range files {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

func TestKoji(t *testing.T) {
	tests := []struct {
		summary string
		fetch   assay.KojiFetch
		want    []string
	}{
		{"one architecture with noarch", assay.KojiFetch{Arches: []string{"x86_64"}}, []string{"hello-2.10-3.fc42.x86_64.rpm", "hello-doc-2.10-3.fc42.noarch.rpm"}},
		{"a base architecture", assay.KojiFetch{Arches: []string{"i386"}}, []string{"hello-2.10-3.fc42.i686.rpm", "hello-doc-2.10-3.fc42.noarch.rpm"}},
		{"without noarch", assay.KojiFetch{Arches: []string{"x86_64"}, Exclude: []string{"noarch"}}, []string{"hello-2.10-3.fc42.x86_64.rpm"}},
		{"all but some", assay.KojiFetch{Arches: []string{"all"}, Exclude: []string{"noarch", "i386"}}, []string{"hello-2.10-3.fc42.aarch64.rpm", "hello-2.10-3.fc42.x86_64.rpm"}},
		{"source alone", assay.KojiFetch{Source: true}, []string{"hello-2.10-3.fc42.src.rpm"}},
		{"debuginfo", assay.KojiFetch{Arches: []string{"x86_64"}, Exclude: []string{"noarch"}, Debuginfo: true},
			[]string{"hello-2.10-3.fc42.x86_64.rpm", "hello-debuginfo-2.10-3.fc42.x86_64.rpm", "hello-debugsource-2.10-3.fc42.x86_64.rpm"}},
		{"an architecture it was not built for", assay.KojiFetch{Arches: []string{"s390x"}, Exclude: []string{"noarch"}}, []string{}},
		{"nothing", assay.KojiFetch{}, []string{}},
	}
	s := newSite(t)
	for _, tt := range tests {
		t.Run(tt.summary, func(t *testing.T) {
			tt.fetch.Build = "hello-0:2.10-3.fc42"
			value, files, err := s.fetch(assay.Fetch{Dir: "/run/check/rpms", Koji: &tt.fetch})
			if err != nil {
				t.Fatal(err)
			}
			paths := []string{}
			for _, name := range tt.want {
				paths = append(paths, "/run/check/rpms/"+name)
			}
			want := map[string]any{"downloaded_rpms": paths, "downloaded_logs": []string{}, "log_errors": []string{}}
			if diff := cmp.Diff(want, value); diff != "" {
				t.Errorf("the value:\n%s", diff)
			}
			if diff := cmp.Diff(tt.want, append([]string{}, names(files)...)); diff != "" {
				t.Errorf("the files:\n%s", diff)
			}
		})
	}
	if data := mustFile(t, s, "hello-2.10-3.fc42", "x86_64", "hello-2.10-3.fc42.x86_64.rpm"); data != string(fetchtest.RPMFile("header and payload of hello for x86_64")) {
		t.Errorf("it holds %q", data)
	}
}

func mustFile(t *testing.T, s *site, build, arch, name string) string {
	t.Helper()
	_, files, err := s.fetch(assay.Fetch{Koji: &assay.KojiFetch{Build: build, Arches: []string{arch}}})
	if err != nil {
		t.Fatal(err)
	}
	return files[name]
}

func TestBuildLogs(t *testing.T) {
	s := newSite(t)
	value, files, err := s.fetch(assay.Fetch{Koji: &assay.KojiFetch{Build: "hello-2.10-3.fc42", Arches: []string{"all"}, Exclude: []string{"aarch64"}, BuildLogs: true}})
	if err != nil {
		t.Fatal(err)
	}
	got := value.(map[string]any)
	if diff := cmp.Diff([]string{"/run/check/build.log.noarch", "/run/check/build.log.x86_64"}, got["downloaded_logs"]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"i686"}, got["log_errors"]); diff != "" {
		t.Error(diff)
	}
	if files["build.log.x86_64"] != "built\n" {
		t.Errorf("the log holds %q", files["build.log.x86_64"])
	}
}

func TestLatestStable(t *testing.T) {
	s := newSite(t)
	latest := assay.Fetch{Koji: &assay.KojiFetch{Build: "hello-2.10-3.fc42", Latest: true, Arches: []string{"x86_64"}}}
	if _, files, err := s.fetch(latest); err != nil || !slices.Equal(names(files), []string{"hello-2.9-1.fc42.x86_64.rpm"}) {
		t.Errorf("from the release: %v, %v", names(files), err)
	}
	s.Tags["f42-updates"] = []string{"hello-2.9-1.fc42", "hello-2.10-3.fc42"}
	if _, files, err := s.fetch(latest); err != nil || !slices.Contains(names(files), "hello-2.10-3.fc42.x86_64.rpm") {
		t.Errorf("from the updates: %v, %v", names(files), err)
	}
	latest.Koji.Build = "hello-2.10-3.fc43"
	if value, files, err := s.fetch(latest); err != nil || len(files) > 0 || !cmp.Equal(value, map[string]any{}) {
		t.Errorf("without one: %v, %v, %v", value, names(files), err)
	}
}

func TestTag(t *testing.T) {
	s := newSite(t)
	value, files, err := s.fetch(assay.Fetch{Koji: &assay.KojiFetch{Tag: "f42-updates-pending", Arches: []string{"x86_64"}, Exclude: []string{"noarch"}, BuildLogs: true}})
	if err != nil || !slices.Equal(names(files), []string{"g++-tools-1~rc1^git%2-1.fc42.x86_64.rpm", "hello-2.10-3.fc42.x86_64.rpm"}) {
		t.Errorf("%v, %v", names(files), err)
	}
	if got := value.(map[string]any); len(got["downloaded_logs"].([]string)) > 0 || !slices.Contains(s.lines, "build logs are not downloaded for a tag") {
		t.Errorf("%v, said %q", value, s.lines)
	}
}

func TestBodhi(t *testing.T) {
	s := newSite(t)
	value, files, err := s.fetch(assay.Fetch{Bodhi: &assay.BodhiFetch{Update: "FEDORA-2017-04459ef8cf", Arches: []string{"x86_64"}, Source: true}})
	want := []string{"g++-tools-1~rc1^git%2-1.fc42.x86_64.rpm", "hello-2.10-3.fc42.src.rpm", "hello-2.10-3.fc42.x86_64.rpm", "hello-doc-2.10-3.fc42.noarch.rpm"}
	if err != nil || !slices.Equal(names(files), want) {
		t.Fatalf("%v, %v", names(files), err)
	}
	got := value.(map[string]any)
	if len(got) != 1 || len(got["downloaded_rpms"].([]string)) != len(want) {
		t.Errorf("the value is %v", value)
	}
}

func TestDistGit(t *testing.T) {
	s := newSite(t)
	f := assay.DistGitFetch{Namespace: "rpms", Package: "hello", Ref: "f42", Paths: []string{"hello.spec", "tests/a b.yml"}}
	value, files, err := s.fetch(assay.Fetch{DistGit: &f})
	if err != nil || files["hello.spec"] != "Name: hello\n" || files["tests/a b.yml"] != "tests\n" {
		t.Fatalf("%q, %v", files, err)
	}
	if diff := cmp.Diff(map[string]any{"downloaded_files": []string{"/run/check/hello.spec", "/run/check/tests/a b.yml"}}, value); diff != "" {
		t.Error(diff)
	}
	f.LocalPaths, f.IgnoreMissing, f.Paths = []string{"b/one", "none"}, true, []string{"hello.spec", "missing.spec"}
	value, files, err = s.fetch(assay.Fetch{DistGit: &f})
	if err != nil || files["b/one"] != "Name: hello\n" || len(files) != 1 {
		t.Fatalf("%q, %v", files, err)
	}
	if diff := cmp.Diff(map[string]any{"downloaded_files": []string{"/run/check/b/one"}}, value); diff != "" {
		t.Error(diff)
	}
	f = assay.DistGitFetch{Namespace: "rpms", Package: "hello", Ref: "f45", Paths: []string{"hello.spec"}}
	if _, files, err := s.fetch(assay.Fetch{DistGit: &f}); err != nil || files["hello.spec"] != "Name: hello of rawhide\n" {
		t.Errorf("the branch of what is to be f45: %q, %v", files, err)
	}
}

func TestYumRepos(t *testing.T) {
	s := newSite(t)
	value, files, err := s.fetch(assay.Fetch{YumRepos: &assay.YumReposFetch{Tag: "f42-updates-pending", Arches: []string{"x86_64", "noarch"}}})
	want := map[string]map[string]string{
		"f42":         {"x86_64": "https://mirror.example.org/linux/releases/42/Everything/x86_64/os"},
		"f42-updates": {"x86_64": "https://mirror.example.org/linux/updates/42/Everything/x86_64"},
	}
	if diff := cmp.Diff(want, value); diff != "" || err != nil || len(files) > 0 {
		t.Errorf("%v, %v\n%s", err, files, diff)
	}
}

// What is final is assay.ErrFetchRefused and says what to do; nothing is left.
func TestRefused(t *testing.T) {
	koji := func(f assay.KojiFetch) assay.Fetch {
		if f.Arches == nil {
			f.Arches = []string{"x86_64"}
		}
		return assay.Fetch{Koji: &f}
	}
	git := func(f assay.DistGitFetch) assay.Fetch {
		f = assay.DistGitFetch{Namespace: or(f.Namespace, "rpms"), Package: or(f.Package, "hello"), Ref: or(f.Ref, "f42"), BaseURL: f.BaseURL,
			Paths: []string{or(strings.Join(f.Paths, ""), "hello.spec")}, LocalPaths: f.LocalPaths}
		return assay.Fetch{DistGit: &f}
	}
	tests := []struct {
		summary string
		change  func(*site)
		fetch   assay.Fetch
		want    string
	}{
		{"an unknown build", nil, koji(assay.KojiFetch{Build: "nothing-1-1.fc42"}), "Koji does not know it"},
		{"no build's name", nil, koji(assay.KojiFetch{Build: "nothing"}), "write NAME-VERSION-RELEASE"},
		{"a build's name that climbs", nil, koji(assay.KojiFetch{Build: "../../etc-1-1"}), "cannot read"},
		{"a deleted build", func(s *site) { s.Builds["hello-2.10-3.fc42"].State = 2 }, koji(assay.KojiFetch{Build: "hello-2.10-3.fc42"}), "deleted, failed or cancelled"},
		{"an unknown tag", nil, koji(assay.KojiFetch{Tag: "f99"}), "No such tagInfo"},
		{"no dist tag", nil, koji(assay.KojiFetch{Build: "hello-2.10-3", Latest: true}), "no dist tag"},
		{"the hub says no", func(s *site) { s.Turn("/kojihub", fetchtest.Fault) }, koji(assay.KojiFetch{Build: "hello-2.10-3.fc42"}), "permission denied"},
		{"a file that is gone", func(s *site) { s.Turn(".rpm", fetchtest.Teapot) }, koji(assay.KojiFetch{Build: "hello-2.10-3.fc42"}), "418"},
		{"more than is allowed", func(s *site) { s.config.Bytes = 100 }, koji(assay.KojiFetch{Build: "hello-2.10-3.fc42"}), "raise fetch.limit"},
		{"a redirect to a private address", func(s *site) { s.Turn(".rpm", fetchtest.Private) }, koji(assay.KojiFetch{Build: "hello-2.9-1.fc42"}), "redirected to"},
		{"a redirect to itself", func(s *site) { s.Turn(".rpm", slices.Repeat([]fetchtest.Mood{fetchtest.Loop}, 11)...) }, koji(assay.KojiFetch{Build: "hello-2.9-1.fc42"}), "redirected to"},
		{"no hub", func(s *site) { s.config.KojiHub = "" }, koji(assay.KojiFetch{Build: "hello-2.9-1.fc42"}), "set fetch.koji_url"},
		{"no package server", func(s *site) { s.config.Packages = "" }, koji(assay.KojiFetch{Build: "hello-2.9-1.fc42"}), "set fetch.pkg_url"},
		{"an unknown update", nil, assay.Fetch{Bodhi: &assay.BodhiFetch{Update: "FEDORA-1", Arches: []string{"all"}}}, "Bodhi does not know it"},
		{"an update's name that climbs", nil, assay.Fetch{Bodhi: &assay.BodhiFetch{Update: "../users", Arches: []string{"all"}}}, "write its name"},
		{"an update of something else", nil, assay.Fetch{Bodhi: &assay.BodhiFetch{Update: "FEDORA-FLATPAK-1", Arches: []string{"all"}}}, "no builds of RPM packages"},
		{"no Bodhi", func(s *site) { s.config.Bodhi = "" }, assay.Fetch{Bodhi: &assay.BodhiFetch{Update: "FEDORA-1"}}, "set fetch.bodhi_url"},
		{"a file that is not there", nil, git(assay.DistGitFetch{Paths: []string{"none"}}), "404"},
		{"another dist-git", nil, git(assay.DistGitFetch{BaseURL: "https://evil.example"}), "fetch.distgit_urls"},
		{"below an allowed dist-git", func(s *site) { s.config.DistGit = []string{s.URL + "/distgit"} }, git(assay.DistGitFetch{BaseURL: "http://x@" + "127.0.0.1/distgit"}), "fetch.distgit_urls"},
		{"a path that climbs", nil, git(assay.DistGitFetch{Paths: []string{"../../../etc/passwd"}}), "lead nowhere else"},
		{"a local path that climbs", nil, git(assay.DistGitFetch{LocalPaths: []string{"../x"}}), "lead nowhere else"},
		{"an absolute local path", nil, git(assay.DistGitFetch{LocalPaths: []string{"/etc/cron.d/x"}}), "lead nowhere else"},
		{"a package with a slash", nil, git(assay.DistGitFetch{Package: "a/../../b"}), "without slashes"},
		{"a ref that climbs", nil, git(assay.DistGitFetch{Ref: "../../x"}), "write a branch"},
		{"no dist-git", func(s *site) { s.config.DistGit = nil }, git(assay.DistGitFetch{}), "set fetch.distgit_urls"},
		{"an unknown repository", nil, assay.Fetch{YumRepos: &assay.YumReposFetch{Tag: "f1", Arches: []string{"x86_64"}}}, "fetch.yumrepoinfo"},
		{"no repository's architecture", nil, assay.Fetch{YumRepos: &assay.YumReposFetch{Tag: "f42", Arches: []string{"src"}}}, "write real ones"},
		{"nothing at all", nil, assay.Fetch{}, "nothing"},
	}
	for _, tt := range tests {
		t.Run(tt.summary, func(t *testing.T) {
			s := newSite(t)
			if tt.change != nil {
				tt.change(s)
			}
			_, files, err := s.fetch(tt.fetch)
			if !errors.Is(err, assay.ErrFetchRefused) || !strings.Contains(err.Error(), tt.want) || len(files) > 0 {
				t.Errorf("%v with %q, want …%s…", err, names(files), tt.want)
			}
		})
	}
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// What nobody can tell is an error that says nothing about the check.
func TestTrouble(t *testing.T) {
	tests := []struct {
		summary string
		change  func(*site)
		want    string
	}{
		{"a hub that stays away", func(s *site) {
			s.Turn("/kojihub", fetchtest.Busy, fetchtest.Broken, fetchtest.Busy, fetchtest.Offline)
		}, "fault 1014"},
		{"a hub that speaks something else", func(s *site) { s.Turn("/kojihub", fetchtest.Nonsense) }, "XML-RPC"},
		{"an answer with entities", func(s *site) { s.Turn("/kojihub", fetchtest.Bomb) }, "document type"},
		{"an answer without an end", func(s *site) { s.Turn("/kojihub", fetchtest.Endless) }, "longer than"},
		{"an answer nested too deep", func(s *site) { s.Turn("/kojihub", fetchtest.Deep) }, "deep"},
		{"a build under way", func(s *site) {
			s.Add(fetchtest.Build{Name: "hello", Version: "2.9", Release: "1.fc42", State: -1}).State = 0
		}, "being built"},
		{"a file name that climbs", func(s *site) { s.Builds["hello-2.9-1.fc42"].RPMs[0].Name = "../../../etc/cron.d/x" }, "Koji's answer"},
		{"a version that climbs", func(s *site) { s.Builds["hello-2.9-1.fc42"].RPMs[0].Version = "/.." }, "Koji's answer"},
		{"an architecture that climbs", func(s *site) { s.Builds["hello-2.9-1.fc42"].RPMs[0].Arch = "../x86_64" }, "Koji's answer"},
		{"a name without an end", func(s *site) { s.Builds["hello-2.9-1.fc42"].RPMs[0].Name = strings.Repeat("x", 300) }, "Koji's answer"},
		{"another build", func(s *site) { s.Builds["hello-2.9-1.fc42"].Name = "goodbye" }, "which Koji was asked for"},
		{"other bytes than the hub knows", func(s *site) { s.Builds["hello-2.9-1.fc42"].RPMs[0].MD5 = strings.Repeat("0", 32) }, "MD5"},
		{"no package at all", func(s *site) {
			s.Builds["hello-2.9-1.fc42"].RPMs[0].Data = []byte("<html>")
			s.Builds["hello-2.9-1.fc42"].RPMs[0].MD5 = strings.Repeat("0", 32)
		}, "no RPM package"},
		{"another size, where there is no sum", func(s *site) {
			s.Builds["hello-2.9-1.fc42"].RPMs[0].MD5, s.Builds["hello-2.9-1.fc42"].RPMs[0].Size = "none", 7
		}, "announced with 7"},
		{"a file that is packed", func(s *site) { s.Turn(".rpm", fetchtest.Packed) }, "encoded"},
		{"a server that always breaks off at the start", func(s *site) {
			s.Turn(".rpm", fetchtest.Broken, fetchtest.Busy, fetchtest.Broken, fetchtest.Broken)
		}, "500"},
	}
	for _, tt := range tests {
		t.Run(tt.summary, func(t *testing.T) {
			s := newSite(t)
			tt.change(s)
			_, files, err := s.fetch(assay.Fetch{Koji: &assay.KojiFetch{Build: "hello-2.9-1.fc42", Arches: []string{"all"}}})
			if err == nil || errors.Is(err, assay.ErrFetchRefused) || !strings.Contains(err.Error(), tt.want) || len(files) > 0 {
				t.Errorf("%v with %q, want …%s…", err, names(files), tt.want)
			}
		})
	}
}

// What goes away by itself is not noticed, and what was there already is not
// downloaded again.
func TestStumbles(t *testing.T) {
	data := strings.Repeat("payload ", 1000)
	for _, moods := range [][]fetchtest.Mood{
		{fetchtest.Reset}, {fetchtest.Reset, fetchtest.Reset, fetchtest.Busy}, {fetchtest.Reset, fetchtest.WrongRange}, {fetchtest.Reset, fetchtest.NoRange},
		{fetchtest.Short}, {fetchtest.Bent}, {fetchtest.NoRange}, {fetchtest.WrongRange}, {fetchtest.Broken}, {fetchtest.Reset, fetchtest.Moved}, {fetchtest.Weak},
	} {
		t.Run(fmt.Sprint(moods), func(t *testing.T) {
			s := newSite(t)
			s.Builds["hello-2.9-1.fc42"].RPMs[0].Data = fetchtest.RPMFile(data)
			s.Turn(".rpm", moods...)
			_, files, err := s.fetch(assay.Fetch{Koji: &assay.KojiFetch{Build: "hello-2.9-1.fc42", Arches: []string{"x86_64"}}})
			if err != nil || files["hello-2.9-1.fc42.x86_64.rpm"] != string(fetchtest.RPMFile(data)) {
				t.Errorf("%v, %d bytes", err, len(files["hello-2.9-1.fc42.x86_64.rpm"]))
			}
			if moods[0] == fetchtest.Reset && len(moods) == 1 && s.Count(".rpm bytes=") != 1 {
				t.Errorf("it was not gone on with: %q", s.Asked())
			}
		})
	}
}

// Executions share what was downloaded; what cannot change is not even asked about.
func TestShared(t *testing.T) {
	s := newSite(t)
	from := source.New(s.config)
	f := assay.Fetch{Koji: &assay.KojiFetch{Build: "hello-2.10-3.fc42", Arches: []string{"all"}, Source: true, Debuginfo: true}}
	var wait sync.WaitGroup
	for range 6 {
		wait.Go(func() {
			if _, files, err := s.fetchWith(t.Context(), from, f); err != nil || len(files) != 8 {
				t.Errorf("%d files, %v", len(files), err)
			}
		})
	}
	wait.Wait()
	if n := s.Count(".rpm"); n != 8 {
		t.Errorf("8 packages were asked for %d times: %q", n, s.Asked())
	}
}

// Without a cache nothing is left behind.
func TestWithoutCache(t *testing.T) {
	s := newSite(t)
	s.config.Cache, s.config.Scratch = nil, t.TempDir()
	s.Turn(".rpm", fetchtest.Reset)
	for range 2 {
		if _, files, err := s.fetch(assay.Fetch{Koji: &assay.KojiFetch{Build: "hello-2.9-1.fc42", Arches: []string{"x86_64"}}}); err != nil || len(files) != 1 {
			t.Fatalf("%v, %v", names(files), err)
		}
	}
	if left, err := os.ReadDir(s.config.Scratch); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if n := s.Count("GET /packages/hello/2.9/"); n != 3 {
		t.Errorf("asked %d times: %q", n, s.Asked())
	}
}

// Whoever does not want it any more ends it, without a verdict on the check.
func TestCancelled(t *testing.T) {
	s := newSite(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := s.fetchWith(ctx, source.New(s.config), assay.Fetch{Koji: &assay.KojiFetch{Build: "hello-2.9-1.fc42", Arches: []string{"x86_64"}}})
	if !errors.Is(err, context.Canceled) || errors.Is(err, assay.ErrFetchRefused) {
		t.Errorf("%v", err)
	}
}

// At most four downloads are under way, of all executions together.
func TestAtOnce(t *testing.T) {
	var mu sync.Mutex
	now, most := 0, 0
	full := make(chan struct{})
	s := newSite(t)
	s.config.Web.HTTP = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(r.URL.Path, ".rpm") {
			return http.DefaultTransport.RoundTrip(r)
		}
		mu.Lock()
		now++
		most = max(most, now)
		if now == 4 && most == 4 {
			select {
			case <-full:
			default:
				close(full)
			}
		}
		mu.Unlock()
		<-full // so that all four meet
		resp, err := http.DefaultTransport.RoundTrip(r)
		mu.Lock()
		now--
		mu.Unlock()
		return resp, err
	})}
	if _, _, err := s.fetch(assay.Fetch{Koji: &assay.KojiFetch{Build: "hello-2.10-3.fc42", Arches: []string{"all"}, Source: true, Debuginfo: true}}); err != nil {
		t.Fatal(err)
	}
	if most != 4 {
		t.Errorf("%d at once", most)
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
