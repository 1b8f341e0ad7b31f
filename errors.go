package assay

import "errors"

// Errors that cross rooms. Test for them with errors.Is.
var (
	// ErrNotFound tells that no event, execution or file has that name.
	ErrNotFound = errors.New("not found")
	// ErrFenced tells that another runner has begun the execution since: the
	// caller's attempt counts no more and must not report anything.
	ErrFenced = errors.New("another runner has taken over this execution")
	// ErrFinished tells that the execution has its verdict already.
	ErrFinished = errors.New("the execution is finished")
	// ErrFetchRefused tells that what a step wants downloaded is not to be had:
	// the next attempt would hear the same.
	ErrFetchRefused = errors.New("not to be had")
)
