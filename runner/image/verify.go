package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// ErrDamaged is that an image's files are not those that were put there.
var ErrDamaged = errors.New("damaged")

// Verify reads all of an image's files and compares them with what image.json
// says they were. The error is ErrDamaged when one differs, which it names, and
// assay.ErrNotFound when there is no such image. Progress counts bytes; it may
// be nil.
func (s Store) Verify(ctx context.Context, name string, tell func(Progress)) error {
	image, err := s.Find(name)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(image.Dir, describes))
	if err != nil {
		return fmt.Errorf("cannot verify the image %s: %w", name, err)
	}
	f, err := readFile(text)
	if err != nil {
		return fmt.Errorf("cannot verify the image %s: %w", name, err)
	}
	meter := newMeter(tell)
	defer meter.close()
	meter.bytes("verifying "+name, image.Size)
	sums, all, err := f.digests(ctx, image.Dir, meter)
	if err != nil {
		return fmt.Errorf("cannot verify the image %s: %w", name, err)
	}
	for _, part := range f.parts() {
		if want, known := f.Sums[part]; known && sums[part] != want {
			return differs(name, part, sums[part], want)
		}
	}
	if all != f.Digest { // which is all that version 1 knew
		return differs(name, "one of its files", all, f.Digest)
	}
	return nil
}

// digests are the SHA-256, in hex, of each file in dir, and of all one after the
// other. They are read once.
func (f file) digests(ctx context.Context, dir string, meter *meter) (sums map[string]string, all string, err error) {
	together := sha256.New()
	sums = map[string]string{}
	for _, part := range f.parts() {
		if sums[part], err = digest(ctx, filepath.Join(dir, part), together, meter); err != nil {
			return nil, "", fmt.Errorf("cannot compute the checksum of %s: %w", part, err)
		}
	}
	return sums, hex.EncodeToString(together.Sum(nil)), nil
}

// digest is the SHA-256 of one file, which is added to that of all.
func digest(ctx context.Context, path string, all io.Writer, meter *meter) (string, error) {
	in, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = in.Close() }() // only read from
	own := sha256.New()
	_, err = io.Copy(io.MultiWriter(own, all), &counted{ctx: ctx, r: in, meter: meter})
	return hex.EncodeToString(own.Sum(nil)), err
}

func differs(name, part, got, want string) error {
	return fmt.Errorf("cannot trust the image %s: %s is %w: its SHA-256 is %.16s… and was %.16s…: build, pull or import it again", name, part, ErrDamaged, got, want)
}
