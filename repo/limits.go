// Package repo is the only user of git: it keeps mirrors of the repositories
// that the operator mapped, shows and writes out the tree of one commit, reads
// the objects of a push before its refs move, and keeps notes on commits.
//
// Everything that comes out of a repository is hostile: names, links, sizes and
// depths are checked before anything is written, and every bound has an error
// that names it.
package repo

import (
	"fmt"
	"time"
)

// Limits bounds what one repository may cost. A field of 0 takes the value that
// DefaultLimits has for it.
type Limits struct {
	MirrorBytes   int64 // all packs of one mirror
	CheckoutBytes int64 // all files of one checkout together
	FileBytes     int64 // one file, and any one object that is fetched
	Files         int   // files, links and directories of one tree; refs of one repository
	Depth         int   // directories above a file
	// FetchTime bounds one exchange with a repository: fetch, list or push.
	FetchTime time.Duration
}

// Bounds that nobody needs to turn.
const (
	maxPathLength = 1024     // bytes of a path in a tree
	maxNameLength = 255      // bytes of one component, what Linux file systems take
	maxLinkLength = 1024     // bytes of a link's target
	maxTreeBytes  = 32 << 20 // one tree object: some 700,000 entries
	maxPacks      = 1000     // packs of a mirror before it is made anew
	maxHaves      = 256      // tips told to the other side in a fetch
)

// DefaultLimits returns bounds that hold a large source repository and stop a
// hostile one: 4 GiB a mirror, 2 GiB a checkout, 128 MiB a file, 200,000 files,
// 64 directories deep, ten minutes an exchange.
func DefaultLimits() Limits {
	return Limits{
		MirrorBytes:   4 << 30,
		CheckoutBytes: 2 << 30,
		FileBytes:     128 << 20,
		Files:         200_000,
		Depth:         64,
		FetchTime:     10 * time.Minute,
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	l.MirrorBytes = orDefault(l.MirrorBytes, d.MirrorBytes)
	l.CheckoutBytes = orDefault(l.CheckoutBytes, d.CheckoutBytes)
	l.FileBytes = orDefault(l.FileBytes, d.FileBytes)
	l.Files = orDefault(l.Files, d.Files)
	l.Depth = orDefault(l.Depth, d.Depth)
	l.FetchTime = orDefault(l.FetchTime, d.FetchTime)
	return l
}

func orDefault[T int | int64 | time.Duration](value, fallback T) T {
	if value <= 0 {
		return fallback
	}
	return value
}

// LimitError tells that a repository is larger than the operator allows. Trying
// again does not help.
type LimitError struct {
	What  string // "file src/big.bin", "mirror of https://…"
	Limit string // the name of the field of Limits: "FileBytes"
	Max   int64
}

// Error names the limit and its value.
func (e *LimitError) Error() string {
	return fmt.Sprintf("cannot take %s: it is over the limit %s of %d: make it smaller, or raise the limit", e.What, e.Limit, e.Max)
}
