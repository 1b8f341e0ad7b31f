package ssh

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestNumbered(t *testing.T) {
	for in, want := range map[string]struct {
		pid  int
		rest string
		err  bool
	}{
		"42\n":                             {42, "", false},
		"42\nhello\nworld":                 {42, "hello\nworld", false},
		"42\n\n":                           {42, "\n", false},
		"42":                               {0, "", false},
		"":                                 {0, "", false},
		"\nx":                              {0, "", true},
		"1\n":                              {0, "", true}, // every process there is
		"-1\n":                             {0, "", true},
		"0\n":                              {0, "", true},
		"a\n":                              {0, "", true},
		strings.Repeat("9", 100):           {0, "", true},
		"42\n" + strings.Repeat("x", 1000): {42, strings.Repeat("x", 1000), false},
	} {
		for name, reader := range map[string]io.Reader{
			"at once": strings.NewReader(in), "byte by byte": iotest.OneByteReader(strings.NewReader(in)),
		} {
			var rest bytes.Buffer
			n := &numbered{w: &rest}
			_, err := io.Copy(struct{ io.Writer }{n}, struct{ io.Reader }{reader})
			if n.number() != want.pid || rest.String() != want.rest || (err != nil) != want.err {
				t.Errorf("%.20q %s: %d, %.20q, %v", in, name, n.number(), rest.String(), err)
			}
		}
	}
}

// FuzzNumbered feeds what a host may print in place of a number.
func FuzzNumbered(f *testing.F) {
	f.Add([]byte("42\nhello"), 3)
	f.Add([]byte("-1\n"), 0)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		cut = max(0, min(cut, len(in)))
		var rest bytes.Buffer
		n := &numbered{w: &rest}
		_, err := n.Write(in[:cut])
		if err == nil {
			_, err = n.Write(in[cut:])
		}
		if pid := n.number(); pid < 0 || pid == 1 {
			t.Errorf("%q: the process is %d", in, pid)
		}
		_, after, whole := bytes.Cut(in, []byte("\n"))
		if err == nil && whole && !bytes.Equal(rest.Bytes(), after) {
			t.Errorf("%q cut at %d: %q came through", in, cut, rest.Bytes())
		}
	})
}
