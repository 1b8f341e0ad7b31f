package libvirt

import "sync/atomic"

// stats counts since the machines were opened.
type stats struct {
	cold, fresh, waiting, fallbacks          atomic.Int64
	templatesMade, templateFailures          atomic.Int64
	reaped, destroyed, destroyFailures, lost atomic.Int64
}

// Stats are numbers for an operator's metrics.
type Stats struct {
	Cold             int64          // machines booted from nothing
	Fresh            int64          // machines forked when they were asked for
	Waiting          int64          // machines that had waited
	Fallbacks        int64          // of Cold: templates that could not be made, and forks that were refused
	TemplatesMade    int64          // templates made, and found good
	TemplateFailures int64          // templates that could not be made
	Reaped           int64          // things of dead processes that were removed
	Destroyed        int64          // machines destroyed
	DestroyFailures  int64          // machines left to the reaper
	Lost             int64          // machines that the host took away
	Live             int            // machines there are now, with those that wait
	Idle             map[string]int // machines that wait, by template
	Emulated         bool           // machines run without hardware virtualisation
	Alarm            bool           // a machine was not clean: none is handed out
}

// Stats tells what has happened so far.
func (m *Machines) Stats() Stats {
	s := &m.stats
	now := Stats{
		Cold: s.cold.Load(), Fresh: s.fresh.Load(), Waiting: s.waiting.Load(), Fallbacks: s.fallbacks.Load(),
		TemplatesMade: s.templatesMade.Load(), TemplateFailures: s.templateFailures.Load(),
		Reaped: s.reaped.Load(), Destroyed: s.destroyed.Load(), DestroyFailures: s.destroyFailures.Load(),
		Lost: s.lost.Load(), Emulated: m.emulated.Load(), Alarm: m.alarm.raised() != nil, Idle: map[string]int{},
	}
	if m.pool != nil {
		now.Idle = m.pool.Waiting()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now.Live = len(m.live)
	return now
}
