package nvr_test

import (
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/assay-ci/assay/fetch/nvr"
)

func TestParse(t *testing.T) {
	tests := []struct {
		text string
		want nvr.NVR
		tag  string
	}{
		{"gzip-1.13-3.fc42", nvr.NVR{Name: "gzip", Version: "1.13", Release: "3.fc42"}, "f42"},
		{"gcc-c++-tools-14.2~rc1-0.1.20260101git^1.fc43", nvr.NVR{Name: "gcc-c++-tools", Version: "14.2~rc1", Release: "0.1.20260101git^1.fc43"}, "f43"},
		{"bind-32:9.18-1.fc41.2", nvr.NVR{Name: "bind", Version: "9.18", Release: "1.fc41.2"}, "f41"},
		{"kernel-6.1-1.el9", nvr.NVR{Name: "kernel", Version: "6.1", Release: "1.el9"}, ""},
		{"a-1-1.fc42_15.1", nvr.NVR{Name: "a", Version: "1", Release: "1.fc42_15.1"}, "f42"},
		{"a-1-1.fcx", nvr.NVR{Name: "a", Version: "1", Release: "1.fcx"}, ""},
	}
	for _, tt := range tests {
		got, err := nvr.Parse(tt.text)
		if err != nil || got != tt.want || got.Tag() != tt.tag {
			t.Errorf("%s: %+v, tag %q, %v", tt.text, got, got.Tag(), err)
		}
	}
	for _, bad := range []string{"", "a", "a-1", "--", "a--1", "-1-1", "a-1-", "a-x:1-1", "../a-1-1", "a/b-1-1", "a-..-1", "a-1-1/../..", "a b-1-1", "a-1-1\n", "ä-1-1", strings.Repeat("a", 300) + "-1-1"} {
		if got, err := nvr.Parse(bad); err == nil {
			t.Errorf("%q became %+v", bad, got)
		}
	}
}

func TestArches(t *testing.T) {
	tests := []struct {
		summary       string
		want, exclude []string
		arches        []string
		all           bool
		without       []string
	}{
		{"one", []string{"aarch64"}, nil, []string{"aarch64", "noarch"}, false, nil},
		{"a base one", []string{"i386"}, nil, []string{"i386", "i486", "i586", "i686", "noarch"}, false, nil},
		{"noarch alone", []string{"noarch"}, nil, []string{"noarch"}, false, nil},
		{"none", nil, nil, nil, false, nil},
		{"all", []string{"all"}, []string{"armhfp"}, nil, true, []string{"armhfp", "armv7hl", "armv7hnl"}},
		{"without noarch", []string{"s390x"}, []string{"noarch"}, []string{"s390x"}, false, []string{"noarch"}},
		{"everything taken away", []string{"s390x"}, []string{"noarch", "s390x"}, []string{}, false, []string{"noarch", "s390x"}},
	}
	for _, tt := range tests {
		arches, all, without := nvr.Arches(tt.want, tt.exclude)
		if !slices.Equal(arches, tt.arches) || all != tt.all || !slices.Equal(without, tt.without) {
			t.Errorf("%s: %v, %v, %v", tt.summary, arches, all, without)
		}
	}
	for arch, want := range map[string]string{"i686": "i386", "armv7hl": "armhfp", "x86_64": "x86_64", "s390x": "s390x"} {
		if got := nvr.Base(arch); got != want {
			t.Errorf("the base of %s is %s", arch, got)
		}
	}
}

// Whatever is taken for a build is safe in a path and in an address.
func FuzzNVR(f *testing.F) {
	for _, seed := range []string{"gzip-1.13-3.fc42", "bind-32:9.18-1.fc41", "a--1", "../a-1-1", "g++-1~a^b%2-1", "a-1-1.fc42.fc43"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := nvr.Parse(text)
		if err != nil {
			return
		}
		if again, err := nvr.Parse(n.String()); err != nil || again != n {
			t.Errorf("%q: %+v became %+v, %v", text, n, again, err)
		}
		for _, part := range []string{n.Name, n.Version, n.Release} {
			if path.Base(part) != part || part == "." || part == ".." || strings.ContainsAny(part, "/\\\x00\n :?#") {
				t.Errorf("%q: the part %q", text, part)
			}
			if back, err := url.PathUnescape(url.PathEscape(part)); err != nil || back != part {
				t.Errorf("%q does not survive an address", part)
			}
		}
		if tag := n.Tag(); tag != "" && strings.Trim(tag[1:], "0123456789") != "" {
			t.Errorf("%q: the tag %q", text, tag)
		}
	})
}
