package dispatch

import (
	"strings"
	"testing"

	"github.com/assay-ci/assay"
)

func TestCanonical(t *testing.T) {
	tests := map[string]string{
		"https://GitHub.com/A/b":                  "github.com/A/b",
		"git@GitHub.com:A/b.git":                  "github.com/A/b",
		"https://github.com/acme/hello.git":       "github.com/acme/hello",
		"https://user:pass@github.com/acme/hello": "github.com/acme/hello",
		"git@github.com:acme/hello.git":           "github.com/acme/hello",
		"ssh://git@github.com/acme/hello/":        "github.com/acme/hello",
		"github.com/acme/hello":                   "github.com/acme/hello",
		"/srv/git/checks/hello.git":               "/srv/git/checks/hello",
		"/srv/git/../git//checks/hello/":          "/srv/git/checks/hello",
		"file:///srv/git/checks/hello.git":        "/srv/git/checks/hello",
		"  ":                                      "",
	}
	for address, want := range tests {
		if got := Canonical(address); got != want {
			t.Errorf("Canonical(%q) is %q, want %q", address, got, want)
		}
	}
}

func TestPackages(t *testing.T) {
	ps := Packages{
		{Name: "rpms/special", Checks: "/srv/special", Source: "https://github.com/acme/special"},
		{Name: "rpms/*", Checks: "/srv/checks/*.git", Source: "https://github.com/acme/*"},
	}
	special, ok := ps.ByName("rpms/special")
	if !ok || special.Checks != "/srv/special" {
		t.Errorf("the first entry that fits counts: %+v", special)
	}
	hello := assay.Package{Name: "rpms/hello", Checks: "/srv/checks/hello.git", Source: "https://github.com/acme/hello"}
	for what, find := range map[string]func() (assay.Package, bool){
		"by name":   func() (assay.Package, bool) { return ps.ByName("rpms/hello") },
		"by checks": func() (assay.Package, bool) { return ps.ByChecks("/srv/checks/hello") },
		"by source": func() (assay.Package, bool) { return ps.BySource("git@github.com:acme/hello.git") },
	} {
		if got, ok := find(); !ok || got != hello {
			t.Errorf("%s: %+v, %v", what, got, ok)
		}
	}
	for _, name := range []string{"rpms/", "rpms/a/b", "rpms/..", "rpms/-rf", "rpms/.git", "debs/hello", "xrpms/hello", "rpms/he llo", "rpms/a\nb", ""} {
		if p, ok := ps.ByName(name); ok {
			t.Errorf("the name %q was taken for %+v", name, p)
		}
	}
	for _, repo := range []string{"", "/srv/checks/../../etc", "/srv/checks/..", "https://evil.example/acme/hello"} {
		if p, ok := ps.BySource(repo); ok {
			t.Errorf("the source %q was taken for %+v", repo, p)
		}
		if p, ok := ps.ByChecks(repo); ok {
			t.Errorf("the checks %q were taken for %+v", repo, p)
		}
	}
}

func TestPackagesValidate(t *testing.T) {
	tests := map[string]assay.Package{
		"name is missing":     {Checks: "/c"},
		"checks is missing":   {Name: "a"},
		"more than one *":     {Name: "*/*", Checks: "/c"},
		"but name has none":   {Name: "a", Checks: "/c/*"},
		"packages[0] (other)": {Name: "other"},
		"name has a *":        {Name: "a/*", Checks: "/c"},
		"and source need one": {Name: "a/*", Checks: "/c/*", Source: "/s"},
	}
	for want, p := range tests {
		if err := (Packages{p}).Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want …%s…", p, err, want)
		}
	}
	if err := (Packages{{Name: "a/*", Checks: "/c/*", Source: ""}}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestBranches(t *testing.T) {
	tests := []struct{ release, branch, fallback, want string }{
		{"3.fc42", "", "", "f42"},
		{"1.fc9.2", "", "", "f9"},
		{"1.el9_4", "", "main", "epel9 main"},
		{"1", "", "", ""},
		{"1.fc42", "rawhide", "main", "rawhide f42 main"},
		{"1.fcx", "", "", ""},
		{"1.fc42evil", "", "", ""},
	}
	for _, tt := range tests {
		e := assay.Event{Build: &assay.Build{Release: tt.release, Branch: tt.branch}}
		if got := strings.Join(branches(e, assay.Package{Branch: tt.fallback}), " "); got != tt.want {
			t.Errorf("%+v: got %q", tt, got)
		}
	}
}

func TestBranchOfAChange(t *testing.T) {
	e := assay.Event{Kind: assay.EventPush, Ref: "refs/heads/f42"}
	if got := strings.Join(branches(e, assay.Package{Branch: "main"}), " "); got != "f42 main" {
		t.Errorf("got %q", got)
	}
}

func FuzzCanonical(f *testing.F) {
	f.Add("git@github.com:a/b.git")
	f.Add("file:///a/../..")
	f.Fuzz(func(t *testing.T, address string) {
		ps := Packages{{Name: "rpms/*", Checks: "/srv/*.git", Source: "https://h/*"}}
		if p, ok := ps.ByChecks(address); ok {
			if strings.Contains(p.Checks, "..") && strings.Contains(p.Checks, "/../") || strings.Count(p.Checks, "/") != 2 {
				t.Errorf("%q leads to %q", address, p.Checks)
			}
		}
	})
}
