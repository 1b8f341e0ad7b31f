package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/runner/attach"
)

// accessName is the file, below the data directory, with a line of JSON for each
// shell or command that a person ran in a machine.
const accessName = "access.log"

// accessLine is one line of it. There are two for each: when it begins, and with
// ended and exit when it has ended.
type accessLine struct {
	Execution string     `json:"execution"`
	User      string     `json:"user"`
	UID       int        `json:"uid"`
	PID       int        `json:"pid"`
	Command   string     `json:"command"` // "" for a shell
	Terminal  bool       `json:"terminal"`
	Begun     time.Time  `json:"begun"`
	Ended     *time.Time `json:"ended,omitempty"`
	Exit      *int       `json:"exit,omitempty"`
}

// recordAccess keeps who entered which machine and when.
func recordAccess(cfg config.Config, log zerolog.Logger) func(string, attach.Access) {
	path := filepath.Join(cfg.Data, accessName)
	return func(execution string, a attach.Access) {
		line := accessLine{Execution: execution, User: a.User, UID: a.UID, PID: a.PID, Command: a.Command, Terminal: a.Terminal, Begun: a.Begun}
		what := "entered"
		if !a.Ended.IsZero() {
			line.Ended, line.Exit, what = &a.Ended, &a.Exit, "left"
		}
		log.Info().Str("execution", execution).Str("user", a.User).Str("command", a.Command).Msg("somebody " + what + " a machine")
		if err := appendLine(path, line); err != nil {
			log.Error().Err(err).Msg("cannot record who entered a machine")
		}
	}
}

func appendLine(path string, line any) error {
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(text, '\n')); err != nil {
		_ = f.Close() // the failure is what counts
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return f.Close()
}
