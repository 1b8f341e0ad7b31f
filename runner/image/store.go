package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/assay-ci/assay"
	"golang.org/x/sys/unix"
)

// formatVersion is the "version" of image.json that this program writes and reads.
const formatVersion = 1

// describes is the name of the file that makes a directory an image.
const describes = "image.json"

// Image is one image. Kernel, Initrd and Disk are absolute paths.
type Image struct {
	Name    string // "debian-12"
	Dir     string // where it lies, absolute
	Distro  string // "debian"
	Release string // "12"
	Arch    string // as the kernel says it: "x86_64"
	Digest  string // SHA-256 of kernel, initrd and disk, hex
	Kernel  string
	Initrd  string
	Disk    string // qcow2
	Cmdline string // the kernel's command line
	// AgentDigest is the SHA-256, in hex, of the agent inside.
	AgentDigest string
	Built       time.Time
	Packages    []string // what was asked for; more came with it
	Size        int64    // bytes on disk of all three files
}

// file is image.json.
type file struct {
	Version     int       `json:"version"`
	Name        string    `json:"name"`
	Distro      string    `json:"distro"`
	Release     string    `json:"release"`
	Arch        string    `json:"arch"`
	Digest      string    `json:"digest"`
	Kernel      string    `json:"kernel"`
	Initrd      string    `json:"initrd"`
	Disk        string    `json:"disk"`
	Cmdline     string    `json:"cmdline"`
	AgentDigest string    `json:"agent_digest"`
	Built       time.Time `json:"built"`
	Packages    []string  `json:"packages,omitempty"`
}

// Store is a directory of images. Any number of processes may use it at the
// same time.
type Store struct {
	Root string // absolute; made when something is built
}

// cure tells how to come by an image.
func cure(name string) string {
	if slices.Contains(Names(), name) {
		return "build it with: assay image build " + name
	}
	return "assay image list shows those there are; assay image build " + name + " --from NAME makes one"
}

// Find reads the image of that name. The error is an assay.ErrNotFound when
// there is none.
func (s Store) Find(name string) (Image, error) {
	if err := checkName(name); err != nil {
		return Image{}, err
	}
	dir := filepath.Join(s.Root, name)
	text, err := os.ReadFile(filepath.Join(dir, describes))
	if errors.Is(err, fs.ErrNotExist) {
		return Image{}, fmt.Errorf("cannot find the image %s in %s: %w: %s", name, s.Root, assay.ErrNotFound, cure(name))
	}
	if err != nil {
		return Image{}, fmt.Errorf("cannot read the image %s: %w", name, err)
	}
	image, err := parse(dir, text)
	if err != nil {
		return Image{}, fmt.Errorf("cannot use the image %s: %w: build it again with `assay image build %s`", name, err, name)
	}
	return image, nil
}

// parse reads image.json of the image in dir and looks whether its files are there.
func parse(dir string, text []byte) (Image, error) {
	var f file
	if err := json.Unmarshal(text, &f); err != nil {
		return Image{}, fmt.Errorf("its %s is damaged: %w", describes, err)
	}
	if f.Version != formatVersion {
		return Image{}, fmt.Errorf("its format is version %d, this program knows version %d", f.Version, formatVersion)
	}
	image := Image{
		Name: filepath.Base(dir), Dir: dir, Distro: f.Distro, Release: f.Release, Arch: f.Arch,
		Digest: f.Digest, Cmdline: f.Cmdline, AgentDigest: f.AgentDigest, Built: f.Built, Packages: f.Packages,
	}
	for _, part := range []struct {
		path *string
		name string
	}{{&image.Kernel, f.Kernel}, {&image.Initrd, f.Initrd}, {&image.Disk, f.Disk}} {
		if part.name == "" || filepath.Base(part.name) != part.name {
			return Image{}, fmt.Errorf("its %s names a file %q that cannot be beside it", describes, part.name)
		}
		*part.path = filepath.Join(dir, part.name)
		info, err := os.Stat(*part.path)
		if err != nil {
			return Image{}, fmt.Errorf("a part of it is missing: %w", err)
		}
		image.Size += info.Size()
	}
	return image, nil
}

// List reads every image, by name. Images that cannot be used are left out and
// told of in the error, beside those that can.
func (s Store) List() ([]Image, error) {
	found, err := filepath.Glob(filepath.Join(s.Root, "*", describes))
	if err != nil {
		return nil, fmt.Errorf("cannot list the images in %s: %w", s.Root, err)
	}
	var images []Image
	var errs []error
	for _, path := range found {
		name := filepath.Base(filepath.Dir(path))
		if checkName(name) != nil {
			continue // a build at work, or what is left of one
		}
		image, err := s.Find(name)
		switch {
		case errors.Is(err, assay.ErrNotFound): // removed since
		case err != nil:
			errs = append(errs, err)
		default:
			images = append(images, image)
		}
	}
	return images, errors.Join(errs...)
}

// Remove deletes an image; the packages it was built of stay in the cache.
// Machines that run from it go on. The error is an assay.ErrNotFound when there
// is none. It waits for a build to end.
func (s Store) Remove(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	dir := filepath.Join(s.Root, name)
	if _, err := os.Lstat(dir); err != nil {
		return fmt.Errorf("cannot remove the image %s: %w: there is none in %s", name, assay.ErrNotFound, s.Root)
	}
	unlock, err := s.lock(ctx, func() {})
	if err != nil {
		return err
	}
	defer unlock()
	// Away in one step: a reader must not see half of it.
	gone, err := os.MkdirTemp(s.Root, name+partMark)
	if err == nil {
		err = os.Rename(dir, filepath.Join(gone, name))
	}
	if err == nil {
		err = os.RemoveAll(gone)
	}
	if err != nil {
		return fmt.Errorf("cannot remove the image %s: %w", name, err)
	}
	_ = os.Remove(filepath.Join(s.Root, name+".log")) // it may never have had one
	return nil
}

// partMark is in the name of every directory that is not an image yet, or no
// longer one. No image's name has it.
const partMark = ".part-"

// sweep removes what killed builds left. Only the holder of the lock may call it.
func (s Store) sweep() error {
	stale, err := filepath.Glob(filepath.Join(s.Root, "*"+partMark+"*"))
	if err != nil {
		return err
	}
	cached, err := filepath.Glob(filepath.Join(s.Root, ".cache", "*"+partMark+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range append(stale, cached...) {
		errs = append(errs, removeTree(path))
	}
	return errors.Join(errs...)
}

// removeTree removes a tree that may have directories without write permission.
func removeTree(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// lock waits until nobody else builds or removes; waiting is called once if that
// takes a while. The lock ends with the process at the latest.
func (s Store) lock(ctx context.Context, waiting func()) (unlock func(), err error) {
	if err := os.MkdirAll(s.Root, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the image directory: %w", err)
	}
	held, err := os.OpenFile(filepath.Join(s.Root, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the image directory: %w", err)
	}
	for first := true; ; first = false {
		err := unix.Flock(int(held.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = held.Close() }, nil // closing unlocks
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("cannot lock the image directory %s: %w", s.Root, err), held.Close())
		}
		if first {
			waiting()
		}
		if !pause(ctx, 100*time.Millisecond) {
			return nil, errors.Join(fmt.Errorf("cannot wait for another build in %s: %w", s.Root, ctx.Err()), held.Close())
		}
	}
}

// pause waits, and tells whether ctx still goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// checkName refuses names that could mean anything but a directory of the store.
func checkName(name string) error {
	plain := strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") == ""
	if name == "" || len(name) > 64 || !plain || name[0] == '.' || strings.Contains(name, partMark) {
		return fmt.Errorf("cannot use %q as an image's name: it must have at most 64 lower-case letters, digits, dots and hyphens", name)
	}
	return nil
}
