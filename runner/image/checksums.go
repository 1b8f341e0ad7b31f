package image

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"strings"
)

// checksum is what a file's content must come to.
type checksum struct {
	algorithm string // "sha256" or "sha512"
	hex       string // in lower case
}

// parseChecksum reads a checksum in hexadecimal; its length says which it is.
func parseChecksum(text string) (checksum, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	sum := checksum{hex: text}
	switch len(text) {
	case hex.EncodedLen(sha256.Size):
		sum.algorithm = "sha256"
	case hex.EncodedLen(sha512.Size):
		sum.algorithm = "sha512"
	}
	if _, err := hex.DecodeString(text); err != nil || sum.algorithm == "" {
		return checksum{}, fmt.Errorf("cannot read %.140q as a checksum: it must be SHA-256 or SHA-512, in hexadecimal", text)
	}
	return sum, nil
}

func (c checksum) hash() hash.Hash {
	if c.algorithm == "sha512" {
		return sha512.New()
	}
	return sha256.New()
}

// verify reads a whole file and tells whether it is what it must be.
func (c checksum) verify(file string, read func(io.Reader) io.Reader) (got string, same bool, err error) {
	in, err := os.Open(file)
	if err != nil {
		return "", false, err
	}
	defer func() { _ = in.Close() }() // only read from
	h := c.hash()
	if _, err = io.Copy(h, read(in)); err != nil {
		return "", false, err
	}
	got = hex.EncodeToString(h.Sum(nil))
	return got, got == c.hex, nil
}

// maxSums bounds a file of checksums: the largest of those in the catalogue have
// some hundred lines.
const maxSums = 1 << 20

// findChecksum looks in a file of checksums for the one of a file. It reads what
// sha256sum(1) and sha512sum(1) write, "HEX  NAME" or "HEX *NAME", and the BSD
// form, "SHA256 (NAME) = HEX", with anything around them: signatures, comments.
// When only says that the file is about one file, its only checksum counts
// whatever the name. Two that differ are none.
func findChecksum(text []byte, name string, only bool) (checksum, error) {
	named, all := map[checksum]bool{}, map[checksum]bool{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 64<<10)
	for lines.Scan() {
		of, sum, ok := checksumLine(lines.Text())
		if !ok {
			continue
		}
		all[sum] = true
		if of == name {
			named[sum] = true
		}
	}
	if err := lines.Err(); err != nil {
		return checksum{}, fmt.Errorf("cannot read the checksums: %w", err)
	}
	if len(named) == 0 && only {
		named = all
	}
	if sum, ok := strongest(named); ok {
		return sum, nil
	}
	if len(named) == 0 {
		return checksum{}, fmt.Errorf("cannot find a checksum of %s among %d: the image may have been renamed or withdrawn", name, len(all))
	}
	return checksum{}, fmt.Errorf("cannot tell which of %d checksums of %s is right", len(named), name)
}

// strongest is the one checksum of the stronger kind.
func strongest(sums map[checksum]bool) (checksum, bool) {
	for _, algorithm := range []string{"sha512", "sha256"} {
		var found []checksum
		for sum := range sums {
			if sum.algorithm == algorithm {
				found = append(found, sum)
			}
		}
		if len(found) > 0 {
			return found[0], len(found) == 1
		}
	}
	return checksum{}, false
}

// checksumLine reads one line in either form; ok is false for any other line.
func checksumLine(line string) (name string, sum checksum, ok bool) {
	line = strings.TrimSpace(line)
	digest, name, found := strings.Cut(line, " ")
	name = strings.TrimPrefix(strings.TrimLeft(name, " "), "*")
	kind, rest, bsd := strings.Cut(line, " (")
	if bsd = bsd && (kind == "SHA256" || kind == "SHA512"); bsd {
		i := strings.LastIndex(rest, ") = ")
		if i < 0 {
			return "", checksum{}, false
		}
		name, digest = rest[:i], rest[i+4:]
	} else if !found {
		return "", checksum{}, false
	}
	sum, err := parseChecksum(digest)
	if err != nil || bsd && !strings.EqualFold(kind, sum.algorithm) {
		return "", checksum{}, false
	}
	return path.Base(name), sum, true // "./NAME" in some
}
