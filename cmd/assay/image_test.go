package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/assay-ci/assay/runner/image"
)

// half is a server that sends half of a file, once, and then waits; whoever
// comes later gets what is asked for.
type half struct {
	data []byte
	mu   sync.Mutex
	from []string // the Range of every request
}

func (h *half) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.from = append(h.from, r.Header.Get("Range"))
	first := len(h.from) == 1
	h.mu.Unlock()
	w.Header().Set("ETag", `"one"`)
	if !first {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(h.data))
		return
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(h.data)))
	_, _ = w.Write(h.data[:len(h.data)/2])
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

// TestPullGoesOnAfterKill ends the real program with SIGKILL in the middle of a
// download; the next one fetches the other half.
func TestPullGoesOnAfterKill(t *testing.T) {
	dir := t.TempDir()
	disk := make([]byte, 3<<20)
	for i := range disk {
		disk[i] = byte(i*i>>7) | 1
	}
	disk[510], disk[511] = 0x55, 0xaa
	files := &half{data: disk}
	server := httptest.NewServer(files)
	defer server.Close()
	config := filepath.Join(dir, "assay.yml")
	if err := os.WriteFile(config, []byte("machines: {images: images}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"image", "pull", "-c", config, server.URL + "/disk.raw", "--name", "rocky-9", "--sha256", fmt.Sprintf("%x", sha256.Sum256(disk))}
	first := exec.CommandContext(t.Context(), filepath.Join(bin, "assay"), args...)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "half of the file", func() bool {
		parts, err := filepath.Glob(filepath.Join(dir, "images/.cache/pull-*.part"))
		if err != nil || len(parts) != 1 {
			return false
		}
		info, err := os.Stat(parts[0])
		return err == nil && info.Size() == int64(len(disk)/2)
	})
	if err := first.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // killed
	out, err := assayOutput(t, args...)
	if err != nil || !strings.Contains(out, "image rocky-9 is ready") {
		t.Fatalf("%v\n%s", err, out)
	}
	if want := fmt.Sprintf("bytes=%d-", len(disk)/2); len(files.from) != 2 || files.from[1] != want {
		t.Errorf("asked for %q, want %q in the end", files.from, want)
	}
	if out, err := assayOutput(t, args...); err != nil || !strings.Contains(out, "is what is published") || len(files.from) != 2 {
		t.Errorf("pulled again: %v\n%s; asked for %q", err, out, files.from)
	}
	if out, err := assayOutput(t, "image", "verify", "-c", config); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestProgressOfImages(t *testing.T) {
	for want, now := range map[string]image.Progress{
		" [######..................] (1 MiB of 4 MiB)": {Done: 1 << 20, Total: 4 << 20, Unit: image.UnitBytes},
		" [########................] (1 of 3)":         {Done: 1, Total: 3},
		" [########################] 100%":             {Done: 100, Total: 100, Unit: image.UnitPercent},
		" (5 KiB)":                                     {Done: 5 << 10, Unit: image.UnitBytes},
		"":                                             {Stage: "looking"},
	} {
		if got := bar(now); got != want {
			t.Errorf("%+v is shown as %q, want %q", now, got, want)
		}
	}
	var out bytes.Buffer
	show := newProgress(&out)
	for _, stage := range []string{"one", "one", "two"} {
		show.tell(image.Progress{Stage: stage})
	}
	show.end()
	if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); len(lines) != 2 || !strings.HasSuffix(lines[0], "s  one") || !strings.HasSuffix(lines[1], "s  two") {
		t.Errorf("shown %q", lines)
	}
}
