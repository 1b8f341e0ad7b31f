package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/image"
)

// progress shows the stages of something that takes a while: in one line with a
// bar on a terminal, in plain lines elsewhere.
type progress struct {
	w     io.Writer
	tty   bool
	told  bool
	stage string
	begun time.Time
}

func newProgress(w io.Writer) *progress {
	return &progress{w: w, tty: isTerminal(w), begun: time.Now()}
}

func (p *progress) tell(now image.Progress) {
	p.told = true
	line := fmt.Sprintf("%5.0fs  %s", time.Since(p.begun).Seconds(), now.Stage)
	if p.tty {
		fmt.Fprintf(p.w, "\r\x1b[K%s%s", line, bar(now))
	} else if now.Stage != p.stage {
		fmt.Fprintln(p.w, line+amount(now))
	}
	p.stage = now.Stage
}

// barWidth is how many signs the bar of a finished stage has.
const barWidth = 24

// bar draws how much of a stage is done, and says how much that is.
func bar(now image.Progress) string {
	if now.Total <= 0 {
		return amount(now)
	}
	full := int(barWidth * min(now.Done, now.Total) / now.Total)
	return " [" + strings.Repeat("#", full) + strings.Repeat(".", barWidth-full) + "]" + amount(now)
}

// amount is " (3 of 112)" or " (120 MiB of 480 MiB)".
func amount(now image.Progress) string {
	switch {
	case now.Unit == image.UnitPercent:
		return fmt.Sprintf(" %d%%", now.Done)
	case now.Unit == image.UnitBytes && now.Total > 0:
		return fmt.Sprintf(" (%s of %s)", runner.Bytes(now.Done), runner.Bytes(now.Total))
	case now.Unit == image.UnitBytes && now.Done > 0:
		return fmt.Sprintf(" (%s)", runner.Bytes(now.Done))
	case now.Unit == image.UnitItems && now.Total > 0:
		return fmt.Sprintf(" (%d of %d)", now.Done, now.Total)
	}
	return ""
}

func (p *progress) end() {
	if p.told && p.tty {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
