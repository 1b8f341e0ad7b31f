package runner

import (
	"errors"
	"syscall"
)

// isDiskFull tells an error of this host, which ends the attempt, from a name
// that cannot be made, which only loses one artifact.
func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EIO)
}
