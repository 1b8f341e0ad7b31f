package runner_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/assay-ci/assay/runner"
)

func newMask(t testing.TB, values ...string) *runner.Mask {
	t.Helper()
	secrets := map[string]string{}
	for i, v := range values {
		secrets[string(rune('A'+i))] = v
	}
	m, err := runner.NewMask(secrets)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// written is what comes out when data is written in pieces of so many bytes.
func written(t testing.TB, m *runner.Mask, data string, piece int) string {
	t.Helper()
	var out bytes.Buffer
	w := m.Writer(&out)
	for at := 0; at < len(data); at += piece {
		part := []byte(data[at:min(at+piece, len(data))])
		if n, err := w.Write(part); n != len(part) || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
		clear(part) // it is the caller's
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestMask(t *testing.T) {
	const secret = "s3cr+t/w0rd ü\"x"
	const key = "-----BEGIN KEY-----\nMIIBVAIBADANBgkq\nhkiG9w0B\n-----END KEY-----"
	m := newMask(t, secret, key, "prefix", "prefixed")
	encoded := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	quoted, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"nothing":              {"as it is\nand so on\n", "as it is\nand so on\n"},
		"alone":                {secret, "***"},
		"twice":                {"<" + secret + secret + ">\n", "<******>\n"},
		"a part":               {"s3cr+t/w0r\n", "s3cr+t/w0r\n"},
		"in a URL":             {"https://x/?t=" + url.QueryEscape(secret) + "&u", "https://x/?t=***&u"},
		"in a path":            {"https://x/" + url.PathEscape(secret) + "/u", "https://x/***/u"},
		"escaped small":        {strings.ToLower(url.QueryEscape("s3cr+t/w0rd ü\"x")), "***"},
		"in JSON":              {`{"a":` + string(quoted) + `}`, `{"a":"***"}`},
		"over two lines":       {"s3cr+t/\nw0rd ü\"x.", "***."},
		"over many":            {strings.Join(strings.Split(secret, ""), "\r\n"), "***"},
		"an empty line within": {"s3cr+t/\n\nw0rd ü\"x", "s3cr+t/\n\nw0rd ü\"x"},
		"a key":                {key + "\n", "***\n"},
		"one line of it":       {"MIIBVAIBADANBgkq\n", "***\n"},
		"the longer of two":    {"prefixed", "***"},
		"the shorter of two":   {"prefixer", "***er"},
		"the shorter, cut":     {"prefixe", "***e"},
		"base64":               {encoded(secret) + "\n", "***==\n"},
	} {
		for _, piece := range []int{1, 2, 3, 7, 1 << 20} {
			if got := written(t, m, tt.text, piece); got != tt.want {
				t.Errorf("%s, %d at a time: %q, want %q", name, piece, got, tt.want)
			}
		}
		if got := m.Text(tt.text); !strings.Contains(name, "cut") && name != "a part" && got != tt.want {
			t.Errorf("%s: the text is %q, want %q", name, got, tt.want)
		}
	}
}

// TestMaskInBase64 looks for the secret in what was encoded together with others.
func TestMaskInBase64(t *testing.T) {
	const secret = "hunter2hunter2"
	m := newMask(t, secret)
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding} {
		for before := range 7 {
			for after := range 4 {
				text := encoding.EncodeToString([]byte("user:??"[:before] + secret + "\n\x00~"[:after]))
				got := written(t, m, text[:8]+"\n"+text[8:], 5)
				if !strings.Contains(got, "***") || len(got) > 18 {
					t.Errorf("%d before, %d behind: %q became %q", before, after, text, got)
				}
			}
		}
	}
}

func TestTextThatWasCut(t *testing.T) {
	m := newMask(t, "correct horse battery")
	for text, want := range map[string]string{
		"it said: correct horse":  "it said: ***",
		"it said: correct horse…": "it said: ***…",
		"it is cor":               "it is cor",
		"it is corr":              "it is ***",
	} {
		if got := m.Text(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

func TestSecretsThatCannotBeHidden(t *testing.T) {
	for value, want := range map[string]string{
		"12345": "shorter than 6 bytes", strings.Repeat("x", 40<<10): "longer than 32 KiB", "12345\x006": "zero byte", "a\n\n\n\n\n\nb": "line breaks",
	} {
		_, err := runner.NewMask(map[string]string{"TOKEN": value})
		if err == nil || !strings.Contains(err.Error(), "cannot use the secret TOKEN") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "1234") {
			t.Errorf("%.10q: %v", value, err)
		}
	}
	if m, err := runner.NewMask(nil); m != nil || err != nil || m.Text("x") != "x" || written(t, m, "x\n", 1) != "x\n" {
		t.Error("no secrets are no mask")
	}
}

func FuzzMask(f *testing.F) {
	f.Add("hunter2", "say hunter2\n", 3)
	f.Add("a\nbcdefg", "xa\r\nbcdefgx", 1)
	f.Add("aaaaaaab", "aaaaaaaaaaaab", 2)
	f.Fuzz(func(t *testing.T, secret, text string, piece int) {
		if runner.CheckSecret(secret) != nil || len(secret) > 1000 || strings.Contains(secret, "*") || strings.Contains(text, "*") {
			return
		}
		m := newMask(t, secret)
		piece = max(1, piece%100)
		got := written(t, m, text, piece)
		if whole := written(t, m, text, 1<<20); got != whole {
			t.Errorf("in pieces of %d it is %q, else %q", piece, got, whole)
		}
		if strings.Contains(got, secret) || strings.Contains(m.Text(text), secret) {
			t.Errorf("%q became %q", text, got)
		}
		if !strings.Contains(got, "***") && got != text {
			t.Errorf("%q became %q", text, got)
		}
	})
}

func BenchmarkMask(b *testing.B) {
	line := []byte(strings.Repeat("checking whether the compiler works... yes\n", 1000))
	m := newMask(b, "hunter2hunter2", "correct horse battery staple")
	w := m.Writer(&bytes.Buffer{})
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		var out bytes.Buffer
		w = m.Writer(&out)
		if _, err := w.Write(line); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
}
