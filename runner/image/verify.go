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
	all := sha256.New() // of all files, which is all that version 1 knew
	for _, part := range f.parts() {
		sum, err := f.digest(ctx, filepath.Join(image.Dir, part), all, meter)
		if err != nil {
			return fmt.Errorf("cannot verify the image %s: %w", name, err)
		}
		if want, known := f.Sums[part]; known && sum != want {
			return differs(name, part, sum, want)
		}
	}
	if sum := hex.EncodeToString(all.Sum(nil)); sum != f.Digest {
		return differs(name, "one of its files", sum, f.Digest)
	}
	return nil
}

// digest is the SHA-256 of one file, which is added to that of all.
func (f file) digest(ctx context.Context, path string, all io.Writer, meter *meter) (string, error) {
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
