package runner

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

func fixedLog(w io.Writer, limit int64, full func()) *Log {
	l := NewLog(w, limit, full)
	l.now = func() time.Time { return time.Date(2026, 11, 21, 17, 15, 10, 123_000_000, time.UTC) }
	return l
}

func TestLogLines(t *testing.T) {
	const at = "2026-11-21T17:15:10.123Z "
	tests := []struct {
		summary string
		writes  []string
		want    []string
	}{
		{"one line", []string{"a\n"}, []string{"a"}},
		{"a line in pieces", []string{"a", "b", "c\n"}, []string{"abc"}},
		{"several lines in one piece", []string{"a\nb\n\nc\n"}, []string{"a", "b", "", "c"}},
		{"the last line has no end", []string{"a\nb"}, []string{"a", "b"}},
		{"carriage return before the end", []string{"a\r\nb\r\n"}, []string{"a", "b"}},
		{"nothing", nil, nil},
		{"a line too long is split", []string{strings.Repeat("x", maxLogLine+1) + "\n"}, []string{strings.Repeat("x", maxLogLine), "x"}},
		{"a line just long enough", []string{strings.Repeat("x", maxLogLine) + "\n"}, []string{strings.Repeat("x", maxLogLine)}},
	}
	for _, tt := range tests {
		t.Run(tt.summary, func(t *testing.T) {
			var out bytes.Buffer
			s := fixedLog(&out, 1<<20, t.FailNow).Stream(3, StreamErr)
			for _, w := range tt.writes {
				if n, err := io.WriteString(s, w); n != len(w) || err != nil {
					t.Fatalf("wrote %d of %d: %v", n, len(w), err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			var want strings.Builder
			for _, line := range tt.want {
				fmt.Fprintf(&want, "%s3 err %s\n", at, line)
			}
			if out.String() != want.String() {
				t.Errorf("got %.300q\nwant %.300q", out.String(), want.String())
			}
		})
	}
}

func TestLogSayIsOneLine(t *testing.T) {
	var out bytes.Buffer
	fixedLog(&out, 1, t.FailNow).Say(0, "two\nlines")
	if want := "2026-11-21T17:15:10.123Z 0 run two lines\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestLogLimit(t *testing.T) {
	var out bytes.Buffer
	full := 0
	l := fixedLog(&out, 80, func() { full++ })
	s := l.Stream(1, StreamOut)
	for range 1000 {
		if _, err := io.WriteString(s, "1234\n"); err != nil {
			t.Fatal(err)
		}
	}
	l.Say(0, "still heard")
	if full != 1 {
		t.Errorf("full was called %d times", full)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 4 || !strings.Contains(lines[2], "more than 80 B") || !strings.Contains(lines[3], "still heard") {
		t.Errorf("got %q", lines)
	}
}

// failing is a disk that is full.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestLogTellsOfItsWriter(t *testing.T) {
	l := NewLog(failing{}, 100, func() {})
	l.Say(0, "x")
	if l.Err() == nil {
		t.Error("the writer's error is lost")
	}
}

func TestLogFromManyGoroutines(t *testing.T) {
	var out bytes.Buffer
	l := NewLog(&out, 1<<20, t.FailNow)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s := l.Stream(i, StreamOut)
			for range 200 {
				fmt.Fprintf(s, "line of %d\n", i)
			}
			_ = s.Close()
		})
	}
	wg.Wait()
	form := regexp.MustCompile(`^\S+ (\d) out line of (\d)$`)
	n := 0
	for line := range strings.Lines(out.String()) {
		m := form.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil || m[1] != m[2] {
			t.Fatalf("mixed up: %q", line)
		}
		n++
	}
	if n != 1600 {
		t.Errorf("%d lines of 1600", n)
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 64 << 20: "64 MiB", 3 << 40: "3 TiB", 5 << 50: "5120 TiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) is %q, want %q", n, got, want)
		}
	}
}

func FuzzLog(f *testing.F) {
	f.Add([]byte("a\nb"), 1)
	f.Add([]byte("\r\n\r\x00\n\n"), 3)
	f.Fuzz(func(t *testing.T, data []byte, piece int) {
		var out bytes.Buffer
		s := fixedLog(&out, 1<<20, func() {}).Stream(1, StreamOut)
		piece = max(1, piece%64)
		for rest := data; len(rest) > 0; {
			n := min(piece, len(rest))
			_, _ = s.Write(rest[:n])
			rest = rest[n:]
		}
		_ = s.Close()
		var whole bytes.Buffer
		w := fixedLog(&whole, 1<<20, func() {}).Stream(1, StreamOut)
		_, _ = w.Write(data)
		_ = w.Close()
		if len(data) < maxLogLine && !bytes.Equal(out.Bytes(), whole.Bytes()) {
			t.Errorf("in pieces of %d: %q, whole: %q", piece, out.Bytes(), whole.Bytes())
		}
	})
}

func BenchmarkLog(b *testing.B) {
	line := bytes.Repeat([]byte("a line of a build's output, as they are\n"), 800)
	b.SetBytes(int64(len(line)))
	s := NewLog(io.Discard, 1<<62, func() {}).Stream(1, StreamOut)
	for b.Loop() {
		_, _ = s.Write(line)
	}
}
