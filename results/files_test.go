package results

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func openTestFiles(t testing.TB) *Files {
	t.Helper()
	f, err := OpenFiles(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func content(t testing.TB, f fs.File, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeLog(t testing.TB, f *Files, id string, attempt int, text string) {
	t.Helper()
	w, err := f.Log(id, attempt)
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func artifacts(t testing.TB, f *Files, id string, attempt int) string {
	t.Helper()
	dir, err := f.ArtifactsDir(id, attempt)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLog(t *testing.T) {
	f := openTestFiles(t)
	id := uuid.NewString()
	writeLog(t, f, id, 1, "one\n")
	writeLog(t, f, id, 1, "two\n")
	writeLog(t, f, id, 2, "second attempt\n")
	for attempt, want := range map[int]string{1: "one\ntwo\n", 2: "second attempt\n", 0: "second attempt\n"} {
		file, err := f.OpenLog(id, attempt)
		if got := content(t, file, err); got != want {
			t.Errorf("attempt %d: %q, want %q", attempt, got, want)
		}
	}
	if _, err := os.Stat(filepath.Join(f.dir, "executions", id[:2], id, "2", "log")); err != nil {
		t.Error(err)
	}
	_, err := f.OpenLog(id, 3)
	_, err2 := f.OpenLog(uuid.NewString(), 0)
	if !errors.Is(err, assay.ErrNotFound) || !errors.Is(err2, assay.ErrNotFound) {
		t.Errorf("what is not there: %v, %v", err, err2)
	}
	writeLog(t, f, id, 10, "tenth\n")
	if got, err := f.Attempts(id); err != nil || !reflect.DeepEqual(got, []int{1, 2, 10}) {
		t.Errorf("attempts are %v, %v", got, err)
	}
}

func TestLogIsReadWhileWritten(t *testing.T) {
	f := openTestFiles(t)
	id := uuid.NewString()
	w, err := f.Log(id, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := io.WriteString(w, "so far"); err != nil {
		t.Fatal(err)
	}
	file, err := f.OpenLog(id, 1)
	if got := content(t, file, err); got != "so far" {
		t.Errorf("got %q", got)
	}
}

func TestConsole(t *testing.T) {
	f := openTestFiles(t)
	id := uuid.NewString()
	for _, text := range []string{"a longer first one", "panic"} {
		if err := f.SaveConsole(id, 1, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	file, err := f.OpenConsole(id, 0)
	if got := content(t, file, err); got != "panic" {
		t.Errorf("got %q", got)
	}
}

// Only UUIDs in their usual spelling become paths.
func TestFilesRefuseOtherNames(t *testing.T) {
	f := openTestFiles(t)
	good := uuid.NewString()
	for _, id := range []string{
		"", ".", "..", "../../etc", "/etc/passwd", strings.ToUpper(uuid.NewString()), "{" + good + "}", "urn:uuid:" + good,
		good + "/..", good + "\x00", strings.ReplaceAll(good, "-", ""),
	} {
		_, errLog := f.Log(id, 1)
		_, errOpen := f.OpenLog(id, 1)
		_, errDir := f.ArtifactsDir(id, 1)
		_, errArtifact := f.OpenArtifact(id, "a")
		errConsole := f.SaveConsole(id, 1, nil)
		for _, err := range []error{errLog, errOpen, errDir, errArtifact, errConsole} {
			if !errors.Is(err, assay.ErrNotFound) {
				t.Errorf("%q: got %v", id, err)
			}
		}
	}
	for _, attempt := range []int{0, -1} {
		if _, err := f.Log(good, attempt); err == nil {
			t.Errorf("attempt %d has a log", attempt)
		}
	}
	if _, err := f.OpenLog(good, -1); !errors.Is(err, assay.ErrNotFound) {
		t.Errorf("attempt -1 gave %v", err)
	}
	if entries, err := os.ReadDir(f.dir); err != nil || len(entries) != 0 {
		t.Errorf("refused names left %v, %v", entries, err)
	}
}

func TestArtifacts(t *testing.T) {
	f := openTestFiles(t)
	id := uuid.NewString()
	dir := artifacts(t, f, id, 1)
	write(t, filepath.Join(dir, "old"), "of attempt 1")
	dir = artifacts(t, f, id, 2)
	write(t, filepath.Join(dir, "sub", "gone"), "of an earlier call")
	if again := artifacts(t, f, id, 2); again != dir {
		t.Errorf("%s, then %s", dir, again)
	}
	write(t, filepath.Join(dir, "sub", "a.txt"), "here")
	file, err := f.OpenArtifact(id, "sub/a.txt")
	if got := content(t, file, err); got != "here" {
		t.Errorf("got %q", got)
	}
	for _, name := range []string{"old", "sub/gone", "sub", ".", "", "sub/", "/sub/a.txt", "sub/../sub/a.txt", "sub/a.txt/x"} {
		if file, err := f.OpenArtifact(id, name); !errors.Is(err, assay.ErrNotFound) {
			t.Errorf("%q: got %v, %v", name, file, err)
		}
	}
}

// The guest decides what its artifacts are; nothing of the host may show.
func TestHostileArtifacts(t *testing.T) {
	f := openTestFiles(t)
	id := uuid.NewString()
	writeLog(t, f, id, 1, "log")
	dir := artifacts(t, f, id, 1)
	write(t, filepath.Join(f.dir, "secret"), "secret")
	write(t, filepath.Join(dir, "inside"), "inside")
	for name, target := range map[string]string{
		"absolute": filepath.Join(f.dir, "secret"), "up": "../log", "far": "../../../../../secret",
		"dir": "..", "root": "/", "loop": "loop", "proc": "/proc/self/environ", "dangling": "nothing",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("inside", filepath.Join(dir, "fine")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"absolute", "up", "far", "dir", "dir/log", "root", "root/etc/passwd", "loop", "proc", "dangling",
		"pipe", "../log", "..", strings.Repeat("x", 300), strings.Repeat("x/", 3000) + "x", "a\x00b", "\xff"} {
		if file, err := f.OpenArtifact(id, name); !errors.Is(err, assay.ErrNotFound) {
			t.Errorf("%.50q: got %v, %v", name, file, err)
		}
	}
	file, err := f.OpenArtifact(id, "fine")
	if got := content(t, file, err); got != "inside" {
		t.Errorf("a link that stays inside gives %q", got)
	}
}

// What others are given of a guest's artifacts are its plain files, as they are.
func TestCopyArtifacts(t *testing.T) {
	f := openTestFiles(t)
	id := uuid.NewString()
	dir := artifacts(t, f, id, 1)
	write(t, filepath.Join(f.dir, "secret"), "secret")
	write(t, filepath.Join(dir, "a.txt"), "here")
	write(t, filepath.Join(dir, "deep", "er", "b.txt"), "there")
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"up": "../../../secret", "far": filepath.Join(f.dir, "secret"), "dir": "..", "near": "a.txt"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "new", "one")
	if err := f.CopyArtifacts(id, to); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	err := filepath.WalkDir(to, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(to, name)
		data, err := os.ReadFile(name)
		got[rel] = d.Type().String()[:1] + string(data)
		return err
	})
	if diff := cmp.Diff(map[string]string{"a.txt": "-here", "deep/er/b.txt": "-there"}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if info, err := os.Stat(filepath.Join(to, "empty")); err != nil || !info.IsDir() {
		t.Errorf("the empty directory: %v", err)
	}
	for _, id := range []string{uuid.NewString(), "../" + id, ""} {
		if err := f.CopyArtifacts(id, t.TempDir()); !errors.Is(err, assay.ErrNotFound) {
			t.Errorf("%q: got %v", id, err)
		}
	}
}

// A link in place of the directory itself does not lead out either, and removing
// the old artifacts removes nothing else.
func TestArtifactsDirectoryIsALink(t *testing.T) {
	f := openTestFiles(t)
	id := uuid.NewString()
	dir := artifacts(t, f, id, 1)
	outside := t.TempDir()
	write(t, filepath.Join(outside, "keep"), "x")
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := f.OpenArtifact(id, "keep"); !errors.Is(err, assay.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	artifacts(t, f, id, 1)
	if _, err := os.Stat(filepath.Join(outside, "keep")); err != nil {
		t.Errorf("a file outside was removed: %v", err)
	}
	if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
		t.Errorf("the link is still there: %v, %v", info, err)
	}
}

func FuzzOpenArtifact(f *testing.F) {
	for _, name := range []string{"a", "../log", "./a", "a/../../log", "up/log", "/etc/passwd", "a\x00"} {
		f.Add(name)
	}
	files := openTestFiles(f)
	id := uuid.NewString()
	writeLog(f, files, id, 1, "host's")
	dir := artifacts(f, files, id, 1)
	write(f, filepath.Join(dir, "a"), "guest's")
	if err := os.Symlink("..", filepath.Join(dir, "up")); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name string) {
		file, err := files.OpenArtifact(id, name)
		if err != nil {
			return
		}
		if got := content(t, file, nil); got != "guest's" {
			t.Errorf("%q opens %q", name, got)
		}
	})
}
