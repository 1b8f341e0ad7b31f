package runner

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/assay-ci/assay"
)

// ArchiveLimits bounds what Extract takes from a machine.
type ArchiveLimits struct {
	Bytes int64 // of all files together
	Files int   // files and directories
}

// maxArchivePath bounds one path within an archive, in bytes.
const maxArchivePath = 1024

// Extracted tells what came out of an archive.
type Extracted struct {
	Files   []assay.Artifact
	Skipped []string // one line for each entry that was left out, at most maxSkipped
	Full    bool     // a limit was reached: the rest was not read
}

const maxSkipped = 20

func (x *Extracted) skip(name, why string) {
	if len(x.Skipped) < maxSkipped {
		x.Skipped = append(x.Skipped, fmt.Sprintf("%q: %s", clip(name, 200), why))
	}
}

// Extract unpacks a tar stream that a hostile guest may have made into dir,
// which must exist. Only plain files and directories come out: links, devices
// and odd names are skipped and named in the answer. Nothing is ever written
// outside dir (os.Root), no mode is taken over but the owner's execute bit. At a
// limit it stops reading with Full set, which is no error.
func Extract(r io.Reader, dir string, limits ArchiveLimits) (Extracted, error) {
	var out Extracted
	root, err := os.OpenRoot(dir)
	if err != nil {
		return out, fmt.Errorf("cannot unpack into %s: %w", dir, err)
	}
	defer root.Close()
	left, entries := limits.Bytes, 0
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return out, fmt.Errorf("cannot read the archive from the machine: %w", err)
		}
		if entries++; entries > limits.Files {
			out.Full = true
			return out, nil
		}
		n, full, err := extractOne(root, tr, h, left, &out)
		if left -= n; err != nil || full {
			out.Full = full
			return out, err
		}
	}
}

// extractOne writes one entry and returns how many bytes it took; full tells
// that it would have taken more than left.
func extractOne(root *os.Root, r io.Reader, h *tar.Header, left int64, out *Extracted) (n int64, full bool, err error) {
	name := path.Clean(h.Name)
	if name == "." {
		return 0, false, nil
	}
	if why := badName(h.Name, name); why != "" {
		out.skip(h.Name, why)
		return 0, false, nil
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.MkdirAll(name, 0o755); err != nil {
			out.skip(name, "its directory cannot be made here")
		}
		return 0, false, nil
	case tar.TypeReg:
	default:
		out.skip(name, "neither a plain file nor a directory")
		return 0, false, nil
	}
	if h.Size > left {
		out.skip(name, "it does not fit into what an execution may leave")
		return 0, true, nil
	}
	n, err = writeEntry(root, r, name, h)
	var perr *fs.PathError
	if errors.As(err, &perr) && n == 0 && !isDiskFull(err) {
		out.skip(name, "a file cannot be made there")
		return 0, false, nil
	}
	if err != nil {
		return n, false, fmt.Errorf("cannot keep %q: %w", clip(name, 200), err)
	}
	out.Files = append(out.Files, assay.Artifact{Path: name, Size: n})
	return n, false, nil
}

func writeEntry(root *os.Root, r io.Reader, name string, h *tar.Header) (int64, error) {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return 0, err
	}
	mode := fs.FileMode(0o644)
	if h.Mode&0o100 != 0 {
		mode = 0o755
	}
	// O_EXCL: the second entry of one name must not follow or rewrite the first.
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, r)
	return n, errors.Join(err, f.Close())
}

// badName says why a name cannot be kept, "" when it can.
func badName(raw, clean string) string {
	switch {
	case len(raw) > maxArchivePath:
		return "its path is too long"
	case path.IsAbs(raw) || !fs.ValidPath(clean):
		return "its path leads out of the directory"
	case !utf8.ValidString(raw):
		return "its name is not UTF-8"
	case strings.ContainsFunc(raw, unicode.IsControl):
		return "its name has control characters"
	}
	return ""
}

// packTrees writes the plain files and directories below host directories as a
// tar stream for a Machine's Push, by the directory that each becomes; an empty
// one for "". Symbolic links are kept as they are, what is neither file,
// directory nor link is left out. Owners are not recorded: in the machine
// everything belongs to the user that the check runs as.
func packTrees(w io.Writer, trees map[string]string) error {
	tw := tar.NewWriter(w)
	for prefix, dir := range trees {
		if err := packTree(tw, prefix, dir); err != nil {
			return err
		}
	}
	return tw.Close()
}

func packTree(tw *tar.Writer, prefix, dir string) error {
	h := &tar.Header{Typeflag: tar.TypeDir, Name: prefix + "/", Mode: 0o755}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if dir == "" {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("cannot pack %s: %w", dir, err)
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		return packOne(tw, root, prefix, name, d)
	})
	if err != nil {
		return fmt.Errorf("cannot pack %s: %w", dir, err)
	}
	return nil
}

func packOne(tw *tar.Writer, root *os.Root, prefix, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	h := &tar.Header{Name: path.Join(prefix, name), Mode: int64(info.Mode().Perm()), ModTime: info.ModTime()}
	switch {
	case d.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		return tw.WriteHeader(h)
	case d.Type()&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = root.Readlink(name); err != nil {
			return err
		}
		return tw.WriteHeader(h)
	case !d.Type().IsRegular():
		return nil
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h.Typeflag, h.Size = tar.TypeReg, info.Size()
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.CopyN(tw, f, info.Size())
	return err
}

// packFiles is Pack for files in memory, by relative path.
func packFiles(w io.Writer, files map[string][]byte) error {
	tw := tar.NewWriter(w)
	for name, data := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(data))}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := tw.Write(data); err != nil {
			return err
		}
	}
	return tw.Close()
}

// clip shortens a string for a message.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
