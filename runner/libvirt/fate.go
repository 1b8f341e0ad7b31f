package libvirt

import (
	"context"
	"sync"
	"time"

	lv "github.com/digitalocean/go-libvirt"
)

// fate is how a machine ended, as far as libvirt told.
type fate int

const (
	fateUnknown fate = iota // it lives, or ended while nobody was watching
	fateItself              // the guest powered off, rebooted or panicked
	fateOthers              // QEMU ended without the guest's doing
)

// fates collects how machines end, from libvirt's lifecycle events
// (VIR_DOMAIN_EVENT_ID_LIFECYCLE), over one connection for all of them.
type fates struct {
	mu    sync.Mutex
	known map[lv.UUID]fate
	news  chan struct{} // closed and replaced at every event
}

func newFates() *fates {
	return &fates{known: map[lv.UUID]fate{}, news: make(chan struct{})}
}

// expect begins to keep what becomes of a machine; forget ends it.
func (f *fates) expect(id lv.UUID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known[id] = fateUnknown
}

func (f *fates) forget(id lv.UUID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.known, id)
}

// take notes an event.
func (f *fates) take(event lv.DomainEventLifecycleMsg) {
	var end fate
	switch {
	case lv.DomainEventType(event.Event) != lv.DomainEventStopped:
		return
	case lv.DomainEventStoppedDetailType(event.Detail) == lv.DomainEventStoppedShutdown:
		end = fateItself
	default:
		end = fateOthers
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ours := f.known[event.Dom.UUID]; ours {
		f.known[event.Dom.UUID] = end
		close(f.news)
		f.news = make(chan struct{})
	}
}

// await tells how a machine ended, as soon as that is known or when ctx ends.
func (f *fates) await(ctx context.Context, id lv.UUID) fate {
	for {
		f.mu.Lock()
		end, news := f.known[id], f.news
		f.mu.Unlock()
		if end != fateUnknown {
			return end
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fateUnknown
		}
	}
}

// watch collects until ctx ends. A daemon that goes away is connected to again,
// and started if need be; what ends meanwhile stays unknown.
func (f *fates) watch(ctx context.Context, d *daemon) {
	for ctx.Err() == nil {
		f.watchOnce(ctx, d)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (f *fates) watchOnce(ctx context.Context, d *daemon) {
	c, err := d.connect(ctx)
	if err != nil {
		return // whoever boots a machine says so
	}
	// The library's stream must be read until the connection is gone, and ended
	// only then: as long as an event is on its way to somebody who does not read,
	// the connection hears nothing, not even of its own end.
	streaming, end := context.WithCancel(context.WithoutCancel(ctx))
	var events <-chan lv.DomainEventLifecycleMsg
	err = c.do(ctx, func(l *lv.Libvirt) error {
		var err error
		events, err = l.LifecycleEvents(streaming)
		return err
	})
	if err == nil {
		f.takeAll(ctx, c, events)
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		if events != nil {
			for range events {
			}
		}
	}()
	c.close()
	end()
	<-drained
}

// takeAll takes events until ctx ends or the connection does.
func (f *fates) takeAll(ctx context.Context, c *conn, events <-chan lv.DomainEventLifecycleMsg) {
	for {
		select {
		case event, ok := <-events:
			if !ok {
				return
			}
			f.take(event)
		case <-c.lv.Disconnected():
			return
		case <-ctx.Done():
			return
		}
	}
}
