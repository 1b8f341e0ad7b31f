package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/dispatch"
	"github.com/assay-ci/assay/results"
	"github.com/assay-ci/assay/runner/libvirt"
)

// metrics are what a Prometheus server may read of this one, under /metrics.
type metrics struct {
	registry     *prometheus.Registry
	attempts     *prometheus.CounterVec
	duration     prometheus.Histogram
	selftest     prometheus.Gauge
	selftestFail prometheus.Counter
	late         *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "assay_attempts_total", Help: "Attempts at executions that were concluded, by verdict.",
		}, []string{"verdict"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "assay_attempt_seconds", Help: "How long attempts took.", Buckets: prometheus.ExponentialBuckets(0.25, 2, 14),
		}),
		selftest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "assay_selftest_success_timestamp_seconds", Help: "When machines were last proved to be kept apart.",
		}),
		selftestFail: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "assay_selftest_failures_total", Help: "Self-tests that did not prove that machines are kept apart.",
		}),
	}
	m.late = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "assay_events_found_total",
		Help: "Events that nobody delivered, by source and by origin: recovered (a webhook should have told), watched (none is there).",
	}, []string{"source", "origin"})
	m.registry.MustRegister(m.attempts, m.late, m.duration, m.selftest, m.selftestFail,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// found counts an event that was not delivered.
func (m *metrics) found(source string, origin assay.Origin) {
	m.late.WithLabelValues(source, string(origin)).Inc()
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// counted counts the attempts that an execute makes.
func (m *metrics) counted(execute dispatch.Execute) dispatch.Execute {
	return func(ctx context.Context, x assay.Execution, step func(context.Context, assay.StepRun) error) (assay.Conclusion, error) {
		begun := time.Now()
		c, err := execute(ctx, x, step)
		if err == nil {
			m.attempts.WithLabelValues(string(c.Verdict)).Inc()
			m.duration.Observe(time.Since(begun).Seconds())
		}
		return c, err
	}
}

// machineCollector reads the numbers of virtual machines when it is asked.
type machineCollector struct{ machines *libvirt.Machines }

var (
	bootsDesc     = prometheus.NewDesc("assay_machines_booted_total", "Machines handed out, by how they came to be: cold, fresh (fork), waiting (fork).", []string{"how"}, nil)
	refusedDesc   = prometheus.NewDesc("assay_forks_refused_total", "Machines booted from nothing because a fork was refused.", nil, nil)
	templatesDesc = prometheus.NewDesc("assay_templates_made_total", "Templates made, by outcome.", []string{"outcome"}, nil)
	aliveDesc     = prometheus.NewDesc("assay_machines", "Virtual machines there are, by state.", []string{"state"}, nil)
	lostDesc      = prometheus.NewDesc("assay_machines_lost_total", "Machines that the host took away from their check.", nil, nil)
	reapedDesc    = prometheus.NewDesc("assay_reaped_total", "Things of dead processes that were removed.", nil, nil)
	destroyDesc   = prometheus.NewDesc("assay_machines_destroyed_total", "Machines destroyed, by outcome; what failed is left to the reaper.", []string{"outcome"}, nil)
	emulatedDesc  = prometheus.NewDesc("assay_machines_emulated", "1 while machines run without hardware virtualisation.", nil, nil)
	alarmDesc     = prometheus.NewDesc("assay_isolation_alarm", "1 when a machine had the mark of another one: none is handed out.", nil, nil)
)

func (c machineCollector) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, to) }

func (c machineCollector) Collect(to chan<- prometheus.Metric) {
	s := c.machines.Stats()
	put := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, kind, value, labels...)
	}
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	put(bootsDesc, counter, float64(s.Cold), "cold")
	put(bootsDesc, counter, float64(s.Fresh), "fresh")
	put(bootsDesc, counter, float64(s.Waiting), "waiting")
	put(refusedDesc, counter, float64(s.Fallbacks))
	put(templatesDesc, counter, float64(s.TemplatesMade), "made")
	put(templatesDesc, counter, float64(s.TemplateFailures), "failed")
	idle := 0
	for _, n := range s.Idle {
		idle += n
	}
	put(aliveDesc, gauge, float64(idle), "waiting")
	put(aliveDesc, gauge, float64(max(0, s.Live-idle)), "used")
	put(lostDesc, counter, float64(s.Lost))
	put(reapedDesc, counter, float64(s.Reaped))
	put(destroyDesc, counter, float64(s.Destroyed), "destroyed")
	put(destroyDesc, counter, float64(s.DestroyFailures), "failed")
	put(emulatedDesc, gauge, truth(s.Emulated))
	put(alarmDesc, gauge, truth(s.Alarm))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// selftest proves again and again, until ctx ends, that machines are kept apart.
func (s *server) selftest(ctx context.Context) error {
	m, ok := s.machines.(*libvirt.Machines)
	if !ok || s.cfg.Machines.SelfTest <= 0 {
		return nil
	}
	tick := time.NewTicker(s.cfg.Machines.SelfTest)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		err := m.SelfTest(ctx)
		switch {
		case err == nil:
			s.metrics.selftest.SetToCurrentTime()
			s.log.Info().Msg("self-test: machines are kept apart")
		case ctx.Err() != nil:
		case errors.Is(err, libvirt.ErrAlarm):
			s.metrics.selftestFail.Inc() // the alarm is in the log already
		default:
			s.metrics.selftestFail.Inc()
			s.log.Warn().Err(err).Msg("the self-test proved nothing")
		}
	}
}

// lagCollector reads what forges are owed when it is asked.
type lagCollector struct{ store *results.Store }

var (
	owedDesc = prometheus.NewDesc("assay_reports_owed", "Statuses, comments and reactions that a forge has not taken yet, by its host.", []string{"forge"}, nil)
	lagDesc  = prometheus.NewDesc("assay_reports_lag_seconds", "Age of the oldest of them.", []string{"forge"}, nil)
)

func (c lagCollector) Describe(to chan<- *prometheus.Desc) {
	to <- owedDesc
	to <- lagDesc
}

// lagTime is how long the store may take to answer.
const lagTime = 5 * time.Second

func (c lagCollector) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), lagTime)
	defer cancel()
	lags, err := c.store.Lags(ctx)
	if err != nil {
		to <- prometheus.NewInvalidMetric(owedDesc, err)
		return
	}
	owed, oldest := map[string]int{}, map[string]time.Time{}
	for _, l := range lags {
		host := forgeHost(l.Repo)
		owed[host] += l.Owed
		if was, ok := oldest[host]; !ok || l.Oldest.Before(was) {
			oldest[host] = l.Oldest
		}
	}
	for host, n := range owed {
		to <- prometheus.MustNewConstMetric(owedDesc, prometheus.GaugeValue, float64(n), host)
		to <- prometheus.MustNewConstMetric(lagDesc, prometheus.GaugeValue, max(0, time.Since(oldest[host]).Seconds()), host)
	}
}

// forgeHost is the host of a repository's address, "git" for a path.
func forgeHost(address string) string {
	canonical := dispatch.Canonical(address)
	if strings.HasPrefix(canonical, "/") {
		return "git"
	}
	return hostOf(address)
}
