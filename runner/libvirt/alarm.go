package libvirt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
)

// alarmName is the file, below the directory of machines, that says that a
// machine was not clean.
const alarmName = "ALARM"

// ErrAlarm tells that no machine is handed out any more, because one of them had
// the mark of another.
var ErrAlarm = errors.New("machines are not kept apart: a new machine had the mark of another one")

// alarm stops everything when a machine is found not to be clean. It outlives
// the process: somebody has to look.
type alarm struct {
	path string
	log  zerolog.Logger
}

func newAlarm(dir string, log zerolog.Logger) alarm {
	return alarm{filepath.Join(dir, alarmName), log}
}

// raise raises the alarm, and returns it as an error.
func (a alarm) raise(mark, seen string) error {
	text := fmt.Sprintf("%s: the machine %s had the mark %q\n", time.Now().UTC().Format(time.RFC3339), mark, seen)
	err := os.WriteFile(a.path, []byte(text), 0o600)
	a.log.Error().Err(err).Str("machine", mark).Str("seen", seen).Msg("ALARM: " + ErrAlarm.Error() + ": no machine is handed out any more")
	return errors.Join(a.error(), err)
}

// raised is an error when the alarm was raised, by whomever.
func (a alarm) raised() error {
	_, err := os.Stat(a.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return errors.Join(a.error(), err) // who cannot look must assume it
}

func (a alarm) error() error {
	return fmt.Errorf("%w: find out why, remove the templates (assay template remove --all), then %s", ErrAlarm, a.path)
}
