package watch

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/assay-ci/assay"
)

// poll looks at the branches of one repository. It is used by one goroutine.
type poll struct {
	Options
	target Target
	// waiting has, by ref, the moves of which no event is known, and since when: a
	// webhook may be on its way. It need not survive: it is only patience.
	waiting map[string]waitingMove
}

type waitingMove struct {
	after string
	since time.Time
}

// look compares the branches with those that are remembered and makes events of
// those that moved. First the inbox gets the events, then they are remembered.
func (p *poll) look(ctx context.Context) (again time.Duration, err error) {
	heads, err := p.Repositories.Heads(ctx, p.target.Address)
	if err != nil {
		return 0, err
	}
	if heads, err = branches(heads); err != nil {
		return 0, err
	}
	name := memoryOfHeads + digest(p.target.Address)
	text, err := p.Memory.Memory(ctx, name)
	if err != nil {
		return 0, err
	}
	old, known, err := readRemembered(text)
	if err != nil {
		return 0, err
	}
	moves, next, err := compare(old, known, heads, p.target.Eager)
	if err != nil {
		return 0, err
	}
	if p.target.Webhook {
		if moves, err = p.unknown(ctx, moves, next); err != nil {
			return 0, err
		}
	}
	for _, m := range moves {
		if err := p.add(ctx, p.target.event(m, old.Changes)); err != nil {
			return 0, err
		}
	}
	if len(p.waiting) > 0 {
		again = p.Grace
	}
	return again, p.remember(ctx, name, old, next, known)
}

func (p *poll) remember(ctx context.Context, name string, old, next remembered, known bool) error {
	if known && maps.Equal(old.Heads, next.Heads) {
		return nil
	}
	text, err := next.encode()
	if err != nil {
		return err
	}
	return p.Memory.Remember(ctx, name, text)
}

// unknown leaves out moves that an event tells of already, and puts those off
// that are not older than the grace: a webhook may be about to arrive. What is
// put off stays remembered as it was.
func (p *poll) unknown(ctx context.Context, moves []move, next remembered) ([]move, error) {
	waiting := map[string]waitingMove{}
	var counted []move
	for _, m := range moves {
		commit, err := p.Events.NewestPush(ctx, p.target.Source, p.target.Repo, m.ref)
		if err != nil {
			return nil, fmt.Errorf("cannot tell what is known of %.100q: %w", m.ref, err)
		}
		if commit == m.after {
			continue
		}
		first := p.waiting[m.ref]
		if first.after != m.after {
			first = waitingMove{after: m.after, since: time.Now()}
		}
		if time.Since(first.since) < p.Grace {
			waiting[m.ref] = first
			next.hold(m.ref, m.before)
			continue
		}
		counted = append(counted, m)
	}
	p.waiting = waiting
	return counted, nil
}

func (p *poll) add(ctx context.Context, e assay.Event) error {
	if p.Meaning != nil {
		e.Meaning = p.Meaning(e)
	}
	id, fresh, err := p.Inbox.AddEvent(ctx, e, nil, nil)
	if err != nil {
		return err
	}
	if fresh {
		p.found(e.Source, e.Origin)
		p.Log.Info().Str("event", id).Str("repository", e.Repo).Str("ref", e.Ref).Str("commit", e.Commit).
			Str("origin", string(e.Origin)).Msg("a branch moved")
	}
	return nil
}
