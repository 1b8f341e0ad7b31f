// Package template keeps machines that were booted, configured and frozen: the
// files from which any number of machines are forked. It knows files, not how a
// machine is frozen or woken.
//
// A store is a directory with one directory for each template:
//
//	ROOT/KEY-GENERATION/template.json   what it is; a lock on it keeps the others
//	ROOT/KEY-GENERATION/used            its time is when a fork was last made
//	ROOT/KEY-GENERATION/…               memory, state and disks, as their maker named them
//	ROOT/.KEY.lock                      held (flock(2)) by whoever makes that template
//	ROOT/.gone-…                        on its way out
//
// The key says what a template is made of, the generation when: a new one is put
// beside the old one, which serves forks that are on their way and then goes. A
// template is good for this boot of the host only: its files are not flushed to
// the disk, and what was written half before a power cut must not be woken.
package template

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/assay-ci/assay/runner"
)

// formatVersion is the "version" of template.json that this program writes and reads.
const formatVersion = 2

const (
	describes = "template.json"
	usedName  = "used"
	goneMark  = ".gone-"
)

// Recipe is everything that a template depends on. Two machines of one recipe
// are the same until their checks begin.
type Recipe struct {
	Image       string             `json:"image"`  // the image's name, for people
	Digest      string             `json:"digest"` // the image's identity
	Arch        string             `json:"arch"`
	Boot        string             `json:"boot"`
	Firmware    string             `json:"firmware,omitempty"` // path of what boots the disk
	Seed        string             `json:"seed,omitempty"`     // what brings the agent in: the name of its file
	Agent       string             `json:"agent,omitempty"`    // digest of the agent that it brings in
	CPUs        int                `json:"cpus"`
	Memory      int64              `json:"memory"` // bytes
	Disk        int64              `json:"disk"`   // bytes; 0 for the image's own
	Cmdline     string             `json:"cmdline"`
	Network     string             `json:"network"`
	Accel       string             `json:"accel"`
	Hypervisor  string             `json:"hypervisor"` // name and version of what ran it
	Shape       string             `json:"shape"`      // of its devices, as their maker defines them
	Environment runner.Environment `json:"environment"`
}

// Key is equal for equal recipes: 16 hexadecimal digits.
func (r Recipe) Key() string {
	r.Image = ""                          // the same image under another name is the same image
	environment := r.Environment.Encode() // in which the order of packages is no difference
	r.Environment = runner.Environment{}
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings and numbers only
	}
	sum := sha256.Sum256(slices.Concat([]byte{formatVersion}, text, environment))
	return hex.EncodeToString(sum[:8])
}

// Template is one frozen machine.
type Template struct {
	Key        string
	Generation string
	Dir        string // absolute
	Recipe     Recipe
	Built      time.Time
	Took       time.Duration // from the boot to the last check
	Used       time.Time     // when a fork was last made
	Size       int64         // bytes that it takes on the disk
}

// Path is the path of one of its files.
func (t Template) Path(name string) string { return filepath.Join(t.Dir, name) }

// file is template.json.
type file struct {
	Version int               `json:"version"`
	Key     string            `json:"key"`
	Recipe  Recipe            `json:"recipe"`
	Built   time.Time         `json:"built"`
	Took    time.Duration     `json:"took"`
	Boot    string            `json:"boot"` // the host's boot (proc(5), random/boot_id)
	Files   map[string]string `json:"files"`
}

// stamp changes with a file's content. Of a file that others may write, such as
// the memory, which QEMU opens for writing, it is the change time, which nobody
// can set (inode(7)); of the others the time of modification, because the change
// time is also that of one more name for the file.
func stamp(path string) (string, error) {
	var s syscall.Stat_t
	if err := syscall.Stat(path, &s); err != nil {
		return "", err
	}
	at := s.Mtim
	if s.Mode&0o022 != 0 || int(s.Uid) != os.Geteuid() {
		at = s.Ctim
	}
	return fmt.Sprintf("%d %d %d.%09d", s.Ino, s.Size, at.Sec, at.Nsec), nil
}

var dirName = regexp.MustCompile(`^([0-9a-f]{16})-([0-9a-f]{8})$`)

// ErrDamaged tells that a template cannot be forked any more: its files are not
// as they were when it was frozen, or it is of another boot of this host.
var ErrDamaged = errors.New("the template is damaged")

// read reads the template in a directory and makes sure that it is whole.
func read(dir string) (Template, error) {
	parts := dirName.FindStringSubmatch(filepath.Base(dir))
	if parts == nil {
		return Template{}, fmt.Errorf("%w: %s is no template's directory", fs.ErrNotExist, dir)
	}
	text, err := os.ReadFile(filepath.Join(dir, describes))
	if err != nil {
		return Template{}, err
	}
	var f file
	if err := json.Unmarshal(text, &f); err != nil {
		return Template{}, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	t := Template{Key: parts[1], Generation: parts[2], Dir: dir, Recipe: f.Recipe, Built: f.Built, Took: f.Took, Used: f.Built}
	if info, err := os.Stat(t.Path(usedName)); err == nil {
		t.Used = info.ModTime()
	}
	t.Size = size(dir)
	return t, f.check(dir, parts[1])
}

// check compares what was frozen with what is there.
func (f file) check(dir, key string) error {
	boot, err := bootID()
	switch {
	case err != nil:
		return err
	case f.Version != formatVersion:
		return fmt.Errorf("%w: its format is version %d, this program knows version %d", ErrDamaged, f.Version, formatVersion)
	case f.Key != key || f.Recipe.Key() != key:
		return fmt.Errorf("%w: it is not what its name says", ErrDamaged)
	case f.Boot != boot:
		return fmt.Errorf("%w: it was made before the host was started", ErrDamaged)
	}
	for name, want := range f.Files {
		got, err := stamp(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("%w: %v", ErrDamaged, err)
		}
		if got != want {
			return fmt.Errorf("%w: %s has changed since it was frozen", ErrDamaged, name)
		}
	}
	return nil
}

func bootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cannot tell this boot of the host from others: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// size is how much the files of a directory take on the disk, but for those that
// another name has too: an image's disk is no template's own.
func size(dir string) int64 {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	var sum int64
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			continue
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Nlink == 1 {
			sum += s.Blocks * 512
		}
	}
	return sum
}

// Hold keeps the template's files where they are until release is called: while
// a fork opens them. The error is a fs.ErrNotExist when it is gone already.
func (t Template) Hold() (release func(), err error) {
	f, err := os.Open(t.Path(describes))
	if err != nil {
		return nil, fmt.Errorf("cannot use the template %s: %w", t.Key, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("cannot use the template %s: %w: it is being removed", t.Key, fs.ErrNotExist)
	}
	if _, err := os.Stat(t.Path(describes)); err != nil { // removed between the two
		_ = f.Close()
		return nil, fmt.Errorf("cannot use the template %s: %w", t.Key, err)
	}
	now := time.Now()
	_ = os.Chtimes(t.Path(usedName), now, now) // what is used least goes first; a wrong order does no harm
	return func() { _ = f.Close() }, nil
}
