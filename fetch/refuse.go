package fetch

import (
	"errors"
	"fmt"

	"github.com/assay-ci/assay"
)

// ErrMissing tells that a server has nothing at an address (404, 410). An error
// that is ErrMissing is assay.ErrFetchRefused, too.
var ErrMissing = errors.New("there is no such thing")

// refusal is a final "no"; its text stands for itself.
type refusal struct {
	text  string
	cause error // ErrMissing, ErrNotAllowed or nil
}

func (r *refusal) Error() string { return r.text }

func (r *refusal) Is(target error) bool { return target == assay.ErrFetchRefused }

func (r *refusal) Unwrap() error { return r.cause }

// Refuse makes an error that is assay.ErrFetchRefused without saying so in its
// text: the next attempt would hear the same.
func Refuse(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &refusal{err.Error(), errors.Unwrap(err)}
}
