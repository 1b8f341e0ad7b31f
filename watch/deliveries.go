package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/assay-ci/assay"
)

// reading reads what a forge remembers of the deliveries of one hook. It is used
// by one goroutine.
type reading struct {
	Options
	hook Hook
	// asked has the deliveries that lately came to nothing new: the inbox knows
	// them under another id, or they were refused. It need not survive.
	asked map[string]bool
}

// listing is what one reading found.
type listing struct {
	deliveries []Delivery // newest first
	older      string     // where it goes on, "" if it came to its end
	top        mark       // the newest delivery that is old enough
}

// read gives the intake what the inbox lacks, oldest first. How far it came is
// remembered when all of a listing is done; until then it is listed again.
func (r *reading) read(ctx context.Context) (again time.Duration, err error) {
	name := memoryOfDelivery + digest(r.hook.Source, r.hook.Name)
	text, err := r.Memory.Memory(ctx, name)
	if err != nil {
		return 0, err
	}
	p, err := readProgress(text)
	if err != nil {
		return 0, err
	}
	horizon := time.Now().Add(-r.Lookback)
	l, err := r.list(ctx, p, horizon)
	if err != nil {
		return 0, err
	}
	done, err := r.recover(ctx, l.deliveries)
	if err != nil {
		return 0, err
	}
	if !done {
		return hurry, nil
	}
	next := p.after(l, horizon)
	if next.Page != "" {
		again = hurry
	}
	text, err = next.encode()
	if err != nil {
		return 0, err
	}
	return again, r.Memory.Remember(ctx, name, text)
}

// after is the progress when all of a listing is done.
func (p progress) after(l listing, horizon time.Time) progress {
	if p.Page == "" {
		p.Top = l.top
	}
	p.Page = l.older
	if l.older != "" {
		return p
	}
	if !p.Begun {
		p.Until.At, p.Floor = horizon, p.Top.ID
	}
	p.Until = p.Until.with(Delivery{ID: p.Top.ID, At: p.Top.At})
	p.Top, p.Begun = mark{}, true
	return p
}

// list collects the deliveries from where the last listing stopped, or from the
// newest, to what is done already. The first time it takes only what the forge
// itself calls failed, and goes no further back than the horizon.
func (r *reading) list(ctx context.Context, p progress, horizon time.Time) (listing, error) {
	l := listing{older: p.Page}
	for range maxPages {
		batch, older, err := r.hook.Forge.List(ctx, l.older)
		if err != nil {
			return listing{}, err
		}
		if older != "" && older == l.older {
			return listing{}, fmt.Errorf("the list of deliveries does not go on after the page %.100q: see whether the forge's API is all right", older)
		}
		l.older = older
		for _, d := range batch {
			if p.Until.covers(d) || !p.Begun && !d.At.IsZero() && d.At.Before(horizon) {
				l.older = ""
				return l, nil
			}
			r.keep(&l, d, p)
		}
		if l.older == "" || len(l.deliveries) >= maxListed {
			break
		}
	}
	return l, nil
}

// keep adds a delivery to the listing, unless it may be on its way just now.
func (r *reading) keep(l *listing, d Delivery, p progress) {
	if !d.At.IsZero() && time.Since(d.At) < r.Grace {
		return
	}
	l.top = l.top.with(d)
	if d.ID > p.Floor && (p.Begun || !d.OK) {
		l.deliveries = append(l.deliveries, d)
	}
}

// recover takes what the inbox lacks. done is false when there is more than one
// reading may take.
func (r *reading) recover(ctx context.Context, list []Delivery) (done bool, err error) {
	asked, taken := map[string]bool{}, 0
	for _, d := range slices.Backward(list) {
		has, err := r.has(ctx, d)
		if err != nil {
			return false, err
		}
		if has {
			asked[d.key()] = r.asked[d.key()]
			continue
		}
		if taken == maxTaken {
			return false, nil
		}
		taken++
		if err := r.one(ctx, d); err != nil {
			return false, fmt.Errorf("cannot recover the delivery %.100q: %w", d.Name, err)
		}
		asked[d.key()] = true
		r.ask(d)
	}
	r.asked = asked
	return true, nil
}

func (r *reading) ask(d Delivery) {
	if r.asked == nil {
		r.asked = map[string]bool{}
	}
	r.asked[d.key()] = true
}

// key is equal for tries that need no more than one answer. Each try that the
// forge did not keep is worth a question of its own.
func (d Delivery) key() string {
	if d.Cut {
		return strconv.FormatInt(d.ID, 10)
	}
	return d.Name
}

// has tells whether nothing is to be done about a delivery. A ping is answered
// and never stored.
func (r *reading) has(ctx context.Context, d Delivery) (bool, error) {
	if d.Name == "" || d.Event == string(assay.EventPing) || r.asked[d.key()] {
		return true, nil
	}
	return r.Inbox.HasDelivery(ctx, r.hook.Source, d.Name)
}

// one recovers one delivery. What the forge forgot, and what the intake will
// never take, is left.
func (r *reading) one(ctx context.Context, d Delivery) error {
	line := r.Log.Info().Str("source", r.hook.Source).Str("hook", r.hook.Name).Str("delivery", d.Name).Str("kind", d.Event)
	if d.Cut {
		line.Msg("a delivery never arrived: the forge is asked to deliver it again")
		return forgotten(r.hook.Forge.Redeliver(ctx, d))
	}
	header, body, err := r.hook.Forge.Fetch(ctx, d)
	if errors.Is(err, assay.ErrNotFound) {
		line.Msg("a delivery never arrived, and the forge has forgotten it")
		return nil
	}
	if err != nil {
		return err
	}
	fresh, err := r.Intake.Take(ctx, r.hook.Source, header, body)
	if errors.Is(err, ErrRefused) {
		line.AnErr("reason", err).Msg("a delivery never arrived, and it cannot be used")
		return nil
	}
	if err != nil {
		return err
	}
	if fresh {
		r.found(r.hook.Source, assay.OriginRecovered)
		line.Msg("a delivery that never arrived is recovered")
	}
	return nil
}

func forgotten(err error) error {
	if errors.Is(err, assay.ErrNotFound) {
		return nil
	}
	return err
}
