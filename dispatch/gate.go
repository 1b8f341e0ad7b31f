package dispatch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/assay-ci/assay"
)

// Gate lets executions that need others run when those have passed, and ends them
// when those have not. The store says when everything that one needs has ended, in
// the same transaction in which the last of it does; the gate decides then. What
// it has let pass stands in line like everything else, after a restart too.
type Gate struct {
	Store    GateStore
	Queue    Queue
	Page     func(kind, id string) string
	Log      zerolog.Logger
	Wake     Signal // woken when something ends
	Finished func() // told after each verdict: reports are owed now

	unqueued []assay.Execution // may run, but the queue did not take them yet
}

const (
	gatePeriod = 5 * time.Second
	gateBatch  = 100
)

// Run decides until ctx ends.
func (g *Gate) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := g.pass(ctx); err != nil && ctx.Err() == nil {
			g.Log.Error().Err(err).Msg("cannot decide about what waits for others")
		}
		g.Wake.wait(ctx, gatePeriod)
	}
	return nil
}

// pass decides about all of which the needs have ended. What is ended by that may
// be needed itself.
func (g *Gate) pass(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := g.publish(ctx); err != nil {
			return err
		}
		list, err := g.Store.NeedsEnded(ctx, gateBatch)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, x := range list {
			if err := g.decide(ctx, x); err != nil && !errors.Is(err, assay.ErrFinished) {
				return err
			}
		}
	}
	return nil
}

func (g *Gate) decide(ctx context.Context, x assay.Execution) error {
	c, met, idle, err := g.verdict(ctx, x)
	if err != nil {
		return err
	}
	log := g.Log.With().Str("execution", x.ID).Str("package", x.Package).Str("check", x.Check).Logger()
	if met {
		if err := g.Store.NeedsMet(ctx, x.ID); err != nil {
			return err
		}
		log.Info().Msg("what the execution needs has passed")
		x.NeedsState = assay.NeedsMet
		g.unqueued = append(g.unqueued, x)
		return nil
	}
	x.State, x.Verdict, x.Reason = assay.StateFinished, c.Verdict, c.Reason
	if idle {
		err = g.Store.Conclude(ctx, x.ID, 0, c, FinalReports(x, g.Page))
	} else {
		x.NeedsState = assay.NeedsUnmet
		err = g.Store.NeedsUnmet(ctx, x.ID, c, FinalReports(x, g.Page))
	}
	if err != nil {
		return err
	}
	log.Info().Str("verdict", string(c.Verdict)).Str("reason", c.Reason).Msg("execution finished")
	g.Finished()
	return nil
}

// verdict is what becomes of an execution whose needs have ended; see Unmet.
func (g *Gate) verdict(ctx context.Context, x assay.Execution) (c assay.Conclusion, met, idle bool, err error) {
	var ended []assay.Execution
	var gone []string
	for _, need := range x.Needs {
		needed, err := g.Store.Execution(ctx, need.Execution)
		switch {
		case errors.Is(err, assay.ErrNotFound):
			gone = append(gone, need.Check)
		case err != nil:
			return c, false, false, err
		default:
			ended = append(ended, needed)
		}
	}
	c, met, idle = Unmet(x, ended, gone)
	return c, met, idle, nil
}

// Unmet is what becomes of an execution that needs those that have ended, and the
// checks whose executions are not kept any more: met tells that it may run; idle
// that it may not, because there was nothing to run the others on, which is
// nobody's trouble.
func Unmet(x assay.Execution, ended []assay.Execution, gone []string) (c assay.Conclusion, met, idle bool) {
	c.Verdict, idle = assay.VerdictSkipped, true
	var bad []string
	for _, needed := range ended {
		if needed.Verdict != assay.VerdictPassed {
			idle = idle && needed.Verdict == assay.VerdictSkipped && needed.Status() == assay.StatusSuccess
			bad = append(bad, lacking(x, needed))
		}
	}
	for _, check := range gone {
		c.Verdict, idle = assay.VerdictErrored, false
		bad = append(bad, check+", which is not kept any more: run it again")
	}
	c.Reason = oneLineOf("needs "+strings.Join(bad, ", and "), 500)
	return c, len(bad) == 0, idle
}

// lacking words what became of an execution that another one needs.
func lacking(x, needed assay.Execution) string {
	how := map[assay.Verdict]string{
		assay.VerdictFailed: "failed", assay.VerdictCrashed: "crashed", assay.VerdictErrored: "errored",
		assay.VerdictCancelled: "was cancelled", assay.VerdictSkipped: "was skipped",
	}[needed.Verdict]
	text := needed.Label() + ", which " + how
	if needed.Optional && !x.Optional {
		text += " (it is not required, but this check is)"
	}
	return text
}

// publish hands the queue what may run. What it does not take stays for the next
// round; after a restart the queue is filled from the store.
func (g *Gate) publish(ctx context.Context) error {
	for len(g.unqueued) > 0 {
		if err := g.Queue.Publish(ctx, g.unqueued[0]); err != nil {
			return fmt.Errorf("cannot queue execution %s: %w", g.unqueued[0].ID, err)
		}
		g.unqueued = g.unqueued[1:]
	}
	return nil
}
