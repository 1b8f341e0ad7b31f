package fetch_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/assay-ci/assay/fetch"
	"github.com/assay-ci/assay/fetch/fetchtest"
)

func TestCheckRPM(t *testing.T) {
	file := fetchtest.RPMFile("header and payload")
	sum := fetchtest.RPMSum(file)
	change := func(at int, b byte) []byte {
		c := bytes.Clone(file)
		c[at] = b
		return c
	}
	tests := []struct {
		summary string
		data    []byte
		want    string // in the error; "" for none
	}{
		{"whole", file, ""},
		{"other signatures", change(130, 'x'), ""},
		{"another payload", change(len(file)-1, 'x'), "have the MD5 sum"},
		{"cut off in the payload", file[:len(file)-2], "have the MD5 sum"},
		{"cut off in the signatures", file[:120], "it ends 8 bytes into its signatures"},
		{"cut off in the lead", file[:50], "too short"},
		{"empty", nil, "too short"},
		{"a page", []byte(strings.Repeat("<html>", 50)), "no RPM package"},
		{"no signature header", change(96, 0), "no RPM package"},
		{"too many tags", change(104, 0xff), "too large"},
		{"too much data", change(108, 0xff), "too large"},
	}
	for _, tt := range tests {
		err := fetch.CheckRPM(bytes.NewReader(tt.data), sum)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want …%s…", tt.summary, err, tt.want)
		}
	}
}
