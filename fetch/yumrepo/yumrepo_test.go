package yumrepo_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/fetch/yumrepo"
)

// xs is long: five of ten of it are too long.
const xs = `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx`

const historic = `# as Taskotron had it
[DEFAULT]
baseurl = http://mirror.example.org/primary
baseurl_altarch = http://mirror.example.org/secondary
goldurl = %(baseurl)s/releases/%(path)s/Everything/%(arch)s/os
updatesurl: %(baseurl)s/updates/%(path)s/%(arch)s
rawhideurl = %(baseurl)s/%(path)s/%(arch)s/os
primary_arches = armhfp, x86_64
alternate_arches = i386
parent =
tag =
release_status =

[rawhide]
PATH = development/rawhide
url = %(rawhideurl)s
tag = f22
release_status = rawhide

[f20]
url = %(goldurl)s
path = 20
tag = f20

[f20-updates]
url = %(updatesurl)s
path = 20
parent = f20
tag = f20-updates

[f20-updates-testing]
url = %(updatesurl)s
path = testing/20
parent = f20-updates
tag = f20-updates-testing

[percent]
url = http://h/%%41/%(path)s
path = p
tag = percent

[circle]
url = http://h/
tag = c1
parent = c1

[loop]
url = %(path)s
path = %(url)s
tag = loop

[stray]
url = http://h/%x
tag = stray

[unknown]
url = http://h/%(nothing)s
tag = unknown

[relative]
url = not_really_an_url
tag = relative

[long]
a = ` + xs + `
b = %(a)s%(a)s%(a)s%(a)s%(a)s%(a)s%(a)s%(a)s%(a)s%(a)s
c = %(b)s%(b)s%(b)s%(b)s%(b)s%(b)s%(b)s%(b)s%(b)s%(b)s
url = http://h/%(c)s%(c)s%(c)s%(c)s%(c)s%(c)s
tag = long
`

func TestRepos(t *testing.T) {
	info, err := yumrepo.Parse(historic)
	if err != nil {
		t.Fatal(err)
	}
	type repos = map[string]map[string]string
	const primary, secondary = "http://mirror.example.org/primary/", "http://mirror.example.org/secondary/"
	tests := []struct {
		tag    string
		arches []string
		want   repos
	}{
		{"f20", []string{"x86_64"}, repos{"f20": {"x86_64": primary + "releases/20/Everything/x86_64/os"}}},
		{"f20-updates-testing-pending", []string{"x86_64", "i686"}, repos{
			"f20":                 {"x86_64": primary + "releases/20/Everything/x86_64/os", "i686": secondary + "releases/20/Everything/i386/os"},
			"f20-updates":         {"x86_64": primary + "updates/20/x86_64", "i686": secondary + "updates/20/i386"},
			"f20-updates-testing": {"x86_64": primary + "updates/testing/20/x86_64", "i686": secondary + "updates/testing/20/i386"},
		}},
		{"rawhide", []string{"armhfp", "all", "src", "noarch"}, repos{"rawhide": {"armhfp": primary + "development/rawhide/armhfp/os"}}},
		{"f22", []string{"x86_64"}, repos{"rawhide": {"x86_64": primary + "development/rawhide/x86_64/os"}}},
		{"percent", []string{"x86_64"}, repos{"percent": {"x86_64": "http://h/%41/p"}}},
	}
	for _, tt := range tests {
		got, err := info.Repos(tt.tag, tt.arches)
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", tt.tag, err, diff)
		}
	}
	for tag, want := range map[string]string{
		"f99": "the tag \"f99\"", "": "without a name", "-pending": "without a name", "c1": "circle", "loop": "nested too deep", "stray": "write %(name)s",
		"unknown": `cannot find "nothing"`, "relative": "let the operator set baseurl", "long": "too long",
	} {
		if got, err := info.Repos(tag, []string{"x86_64"}); !errors.Is(err, assay.ErrFetchRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want …%s…", tag, got, err, want)
		}
	}
	for _, arches := range [][]string{nil, {"noarch"}, {"../x86_64"}} {
		if _, err := info.Repos("f20", arches); !errors.Is(err, assay.ErrFetchRefused) {
			t.Errorf("%v: %v", arches, err)
		}
	}
}

// The file that comes along is whole, and needs no more than an address.
func TestBuiltin(t *testing.T) {
	bare, err := yumrepo.Parse(yumrepo.Builtin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bare.Repos("f42", []string{"x86_64"}); err == nil || !strings.Contains(err.Error(), "let the operator set baseurl") {
		t.Errorf("without an address: %v", err)
	}
	info, err := yumrepo.Parse(yumrepo.Builtin, "[DEFAULT]\nbaseurl = https://m.example/l\nbaseurl_altarch=https://m.example/s\n[f42]\npath = forty-two\n")
	if err != nil {
		t.Fatal(err)
	}
	got, err := info.Repos("f42-updates-testing", []string{"x86_64", "s390x"})
	if err != nil || len(got) != 3 || got["f42"]["s390x"] != "https://m.example/s/releases/forty-two/Everything/s390x/os" {
		t.Errorf("%v, %v", got, err)
	}
	for _, tag := range []string{"rawhide", info.Rawhide(), "f43-updates", "f44-updates-testing", "f41"} {
		if _, err := info.Repos(tag, []string{"x86_64"}); err != nil {
			t.Errorf("%s: %v", tag, err)
		}
	}
}

func TestParseMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"a = b":                                 "line 1: cannot read",
		"[x\na = b":                             "line 1: cannot read",
		"[]":                                    "line 1: cannot read",
		"[x]\n\nwords":                          "line 3: cannot read",
		"[x]\n= b":                              "line 2: cannot read",
		"[" + strings.Repeat("x", 200) + "]":    "line 1",
		"[x]\na = " + strings.Repeat("x", 9000): "line 2",
		strings.Repeat("#", yumrepo.MaxFile+1):  "larger than",
		"[x]\na=b\n" + strings.Repeat(" "+strings.Repeat("x", 4000)+"\n", 3): "too long",
	} {
		if _, err := yumrepo.Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want …%s…", text, err, want)
		}
	}
}

// Whatever is in the file, what comes out is an address, soon.
func FuzzYumRepoInfo(f *testing.F) {
	f.Add(historic, "f20-updates")
	f.Add(yumrepo.Builtin, "rawhide")
	f.Add("[a]\nurl=%(b)s%(b)s\nb=%(c)s%(c)s\nc=%(url)s\ntag=t\n", "t")
	f.Add("[a]\n tag = t\nx\n y\n", "t")
	f.Fuzz(func(t *testing.T, text, tag string) {
		info, err := yumrepo.Parse(text)
		if err != nil {
			return
		}
		repos, err := info.Repos(tag, []string{"x86_64", "i386"})
		if err != nil {
			if !errors.Is(err, assay.ErrFetchRefused) {
				t.Errorf("%v", err)
			}
			return
		}
		for name, arches := range repos {
			for arch, address := range arches {
				if u, err := url.Parse(address); err != nil || u.Host == "" {
					t.Errorf("%s %s: %q", name, arch, address)
				}
			}
		}
	})
}
