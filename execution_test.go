package assay_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
)

func TestStatusContext(t *testing.T) {
	for _, tt := range []struct{ check, arch, variant, want string }{
		{"greets", "", "", "assay/greets"},
		{"greets", "noarch", "", "assay/greets"},
		{"pkg.greets", "x86_64", "", "assay/pkg.greets/x86_64"},
		{"greets", "noarch", "python=3.12", "assay/greets/python=3.12"},
		{"greets", "x86_64", "image=fedora-42,python=3.12", "assay/greets/x86_64/image=fedora-42,python=3.12"},
		{"greets", "", "with=a b", "assay/greets/with=a-b-ef639f3b5dbd"},
		{"greets", "", "with=a-b", "assay/greets/with=a-b"},
	} {
		x := assay.Execution{Check: tt.check, Arch: tt.arch, Variant: tt.variant}
		if got := x.StatusContext(); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt, got, tt.want)
		}
		if got := x.Label(); "assay/"+got != tt.want {
			t.Errorf("%+v: its label is %s", tt, got)
		}
	}
}

// TestStatusContextIsSafe tries names that no forge would take.
func TestStatusContextIsSafe(t *testing.T) {
	form := regexp.MustCompile(`^[A-Za-z0-9._+=,~/-]+$`)
	seen := map[string]string{}
	long := strings.Repeat("n", 201)
	for _, check := range []string{"a", long} {
		for _, variant := range []string{
			"v=1", "v=1 ", "v= 1", "v=\x00", "v=ä", "v=ö", "v=/", "v=:", "../..", "v=" + strings.Repeat("x", 78),
			"v=" + strings.Repeat("x", 79), "v=" + strings.Repeat("x", 190), "v=" + strings.Repeat("x", 189) + "y", "\u202e", "|`*",
		} {
			x := assay.Execution{Check: check, Arch: "x86_64", Variant: variant}
			got := x.StatusContext()
			if !form.MatchString(got) || len(got) > 255 {
				t.Errorf("%q: %q, %d bytes", variant, got, len(got))
			}
			if other, twice := seen[got]; twice {
				t.Errorf("%q and %q are both %s", variant, other, got)
			}
			seen[got] = variant
		}
	}
}

func TestStatusOfAnExecution(t *testing.T) {
	for _, tt := range []struct {
		verdict assay.Verdict
		needs   assay.NeedsState
		want    assay.StatusState
	}{
		{assay.VerdictSkipped, "", assay.StatusSuccess},
		{assay.VerdictSkipped, assay.NeedsEnded, assay.StatusSuccess},
		{assay.VerdictSkipped, assay.NeedsUnmet, assay.StatusError},
		{assay.VerdictPassed, assay.NeedsMet, assay.StatusSuccess},
		{assay.VerdictFailed, assay.NeedsMet, assay.StatusFailure},
		{assay.VerdictErrored, assay.NeedsUnmet, assay.StatusError},
	} {
		if got := (assay.Execution{Verdict: tt.verdict, NeedsState: tt.needs}).Status(); got != tt.want {
			t.Errorf("%s, %q: %s, want %s", tt.verdict, tt.needs, got, tt.want)
		}
	}
}
