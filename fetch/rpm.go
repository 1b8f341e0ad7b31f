package fetch

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// The beginnings of an RPM file's parts (RPM Reference, Package format V4).
const (
	leadMagic   = "\xed\xab\xee\xdb"
	headerMagic = "\x8e\xad\xe8\x01"
	leadSize    = 96
)

// Bounds of a signature header; real ones have some ten tags and a few KiB.
const (
	maxTags      = 1 << 16
	maxSignature = 64 << 20
)

// CheckRPM compares an RPM file with the MD5 sum over its header and payload, in
// hexadecimal: what RPM calls SIGMD5, and Koji's listRPMs payloadhash. It covers
// everything but the signatures, which may come later.
func CheckRPM(r io.Reader, want string) error {
	if err := skipSignature(r); err != nil {
		return err
	}
	sum := md5.New()
	if _, err := io.Copy(sum, r); err != nil {
		return fmt.Errorf("cannot read the package: %w", err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		return fmt.Errorf("its header and payload have the MD5 sum %s, Koji says %s", got, cut(want, 64))
	}
	return nil
}

// skipSignature reads the lead and the signature header with its padding.
func skipSignature(r io.Reader) error {
	head := make([]byte, leadSize+16)
	if _, err := io.ReadFull(r, head); err != nil {
		return errors.New("it is no RPM package: it is too short")
	}
	intro := head[leadSize:]
	if !bytes.HasPrefix(head, []byte(leadMagic)) || !bytes.HasPrefix(intro, []byte(headerMagic)) {
		return errors.New("it is no RPM package")
	}
	tags, data := int64(binary.BigEndian.Uint32(intro[8:])), int64(binary.BigEndian.Uint32(intro[12:]))
	if tags > maxTags || data > maxSignature {
		return errors.New("it is no RPM package: its signatures are too large")
	}
	rest := 16*tags + data
	rest += (8 - (16+rest)%8) % 8 // the next header begins at a multiple of 8
	if n, err := io.CopyN(io.Discard, r, rest); err != nil {
		return fmt.Errorf("it is no whole RPM package: it ends %d bytes into its signatures", n)
	}
	return nil
}
