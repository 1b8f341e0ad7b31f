package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/internal/filelock"
)

// Store is a directory of images. Any number of processes may use it at the
// same time.
type Store struct {
	Root string // absolute; made when something is built
}

// cure tells how to come by an image.
func cure(name string) string {
	base, _ := splitName(name)
	if r, err := parseRelease(base); err == nil && !r.rpm() {
		return "build it with: assay image build " + name
	}
	if distro, release := guessRelease(base); distro != "" {
		if entry, err := Lookup(distro+":"+release, "", ""); err == nil {
			return "get it with: assay image pull " + entry.Ref()
		}
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
		return Image{}, fmt.Errorf("cannot use the image %s: %w: build it again with `assay image build %s`, or pull or import it again", name, err, name)
	}
	return image, nil
}

// Names lists the names of all images, also of those that cannot be used.
func (s Store) Names() ([]string, error) {
	found, err := filepath.Glob(filepath.Join(s.Root, "*", describes))
	if err != nil {
		return nil, fmt.Errorf("cannot list the images in %s: %w", s.Root, err)
	}
	var names []string
	for _, path := range found {
		name := filepath.Base(filepath.Dir(path))
		if checkName(name) == nil { // else a build at work, or what is left of one
			names = append(names, name)
		}
	}
	return names, nil
}

// List reads every image, by name. Images that cannot be used are left out and
// told of in the error, beside those that can.
func (s Store) List() ([]Image, error) {
	names, err := s.Names()
	if err != nil {
		return nil, err
	}
	var images []Image
	var errs []error
	for _, name := range names {
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
	unlock, err = filelock.Wait(ctx, filepath.Join(s.Root, ".lock"), waiting)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the image directory %s: %w", s.Root, err)
	}
	return unlock, nil
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
	plain := strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
	if name == "" || len(name) > 64 || !plain || name[0] == '.' || strings.Contains(name, partMark) {
		return fmt.Errorf("cannot use %q as an image's name: it must have at most 64 lower-case letters, digits, dots, hyphens and underscores", name)
	}
	return nil
}
