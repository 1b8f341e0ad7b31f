package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-ci/assay/webhook"
)

// intakeOptions are the flags of assay bench intake.
type intakeOptions struct {
	peer        string
	requests    int
	connections int
	rate        int
	seconds     int
	rounds      int
	json        bool
}

func newBenchIntakeCommand(e *env) *cobra.Command {
	var o intakeOptions
	cmd := &cobra.Command{
		Use:   "intake",
		Short: "Measure how fast deliveries are taken, beside adnanh/webhook",
		Long: `Intake sends signed pushes of 8 KB, as GitHub does, to a server of its own: at a
steady rate, and then as fast as they are taken, over many connections. Each
is on disk before it is answered. If the program webhook (adnanh/webhook, Debian
package webhook) is installed it is measured in turn with it, in the same run; it
only verifies the signature and keeps nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return benchIntake(cmd.Context(), e, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.peer, "peer", "webhook", "program to compare with; \"\" for none")
	f.IntVar(&o.requests, "requests", 10000, "deliveries as fast as they are taken, in each round")
	f.IntVar(&o.connections, "connections", 64, "how many connections send them")
	f.IntVar(&o.rate, "rate", 500, "deliveries a second of the steady part")
	f.IntVar(&o.seconds, "seconds", 10, "how long the steady part takes in each round")
	f.IntVar(&o.rounds, "rounds", 3, "how often each program is measured, in turn")
	f.BoolVar(&o.json, "json", false, "as JSON")
	return cmd
}

// intakeReport has one entry for each program; times in milliseconds.
type intakeReport struct {
	Programs []*intakeRow `json:"programs"`
}

type intakeRow struct {
	Name      string    `json:"name"`
	PerSecond []float64 `json:"per_second"` // of each round
	P50       []float64 `json:"p50"`        // as fast as they are taken
	P99       []float64 `json:"p99"`
	SteadyP50 []float64 `json:"steady_p50"`
	SteadyP99 []float64 `json:"steady_p99"`
}

// intakeTarget is a program that takes deliveries.
type intakeTarget struct {
	row   *intakeRow
	url   string
	taken int // the status of a delivery that was taken
}

func benchIntake(ctx context.Context, e *env, o intakeOptions) (err error) {
	if o.requests < 100 || o.connections < 1 || o.rate < 1 || o.seconds < 1 || o.rounds < 1 {
		return &exitError{exitUsage, errors.New("cannot measure with fewer than 100 requests, or none of the others")}
	}
	dir, err := os.MkdirTemp("", "assay-bench-")
	if err != nil {
		return fmt.Errorf("cannot make a directory for the benchmark: %w", err)
	}
	defer os.RemoveAll(dir)
	bench := &intakeBench{e: e, o: o, dir: dir, secret: []byte(strings.Repeat("0123456789abcdef", 2))}
	if err := os.WriteFile(filepath.Join(dir, "secret"), bench.secret, 0o600); err != nil {
		return fmt.Errorf("cannot write the benchmark's secret: %w", err)
	}
	defer func() { err = errors.Join(err, bench.stop()) }()
	targets, err := bench.start(ctx)
	if err != nil {
		return err
	}
	for round := range o.rounds {
		for _, t := range targets {
			if err := bench.measure(ctx, t, round); err != nil {
				return err
			}
		}
	}
	return bench.print(targets)
}

// intakeBench is one run of the benchmark.
type intakeBench struct {
	e      *env
	o      intakeOptions
	dir    string
	secret []byte
	sent   int // deliveries, to name them
	begun  []*exec.Cmd
}

// start starts the programs.
func (b *intakeBench) start(ctx context.Context) ([]*intakeTarget, error) {
	ours, err := b.startAssay(ctx)
	if err != nil {
		return nil, err
	}
	targets := []*intakeTarget{ours}
	if b.o.peer == "" {
		return targets, nil
	}
	path, err := exec.LookPath(b.o.peer)
	if err != nil {
		fmt.Fprintf(b.e.err, "there is no %s to compare with: apt-get install webhook\n", b.o.peer)
		return targets, nil
	}
	peer, err := b.startPeer(ctx, path)
	return append(targets, peer), err
}

func (b *intakeBench) startAssay(ctx context.Context) (*intakeTarget, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	file, data := filepath.Join(b.dir, "assay.yml"), filepath.Join(b.dir, "data")
	text := fmt.Sprintf("listen: 127.0.0.1:0\ndata: %s\nwebhook: {secret_files: [secret]}\nmachines: {kind: local}\nlog: {level: error}\n"+
		"packages: [{name: rpms/none, checks: /nonexistent}]\n", data)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if err := b.run(ctx, exe, "serve", "--config", file); err != nil {
		return nil, err
	}
	var said announced
	err = b.await(ctx, "assay serve", func() error {
		text, err := os.ReadFile(filepath.Join(data, announcement))
		if err != nil {
			return err
		}
		return json.Unmarshal(text, &said)
	})
	return &intakeTarget{&intakeRow{Name: "assay"}, said.URL + "/hooks/github", http.StatusAccepted}, err
}

// peerRules verify the signature, and then start nothing: to run a program for
// each delivery would be the peer's work, not its intake's.
const peerRules = `[{"id": "bench", "execute-command": "/bin/true", "trigger-rule-mismatch-http-response-code": 200, "trigger-rule": {"and": [
  {"match": {"type": "payload-hmac-sha256", "secret": %q, "parameter": {"source": "header", "name": "X-Hub-Signature-256"}}},
  {"match": {"type": "value", "value": "never", "parameter": {"source": "payload", "name": "ref"}}}]}}]`

func (b *intakeBench) startPeer(ctx context.Context, path string) (*intakeTarget, error) {
	rules := filepath.Join(b.dir, "hooks.json")
	if err := os.WriteFile(rules, fmt.Appendf(nil, peerRules, b.secret), 0o600); err != nil {
		return nil, err
	}
	// It cannot choose a port itself: this one is free a moment before.
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := free.Addr().String()
	_, port, err := net.SplitHostPort(address)
	if err = errors.Join(err, free.Close()); err != nil {
		return nil, err
	}
	if err := b.run(ctx, path, "-hooks", rules, "-ip", "127.0.0.1", "-port", port); err != nil {
		return nil, err
	}
	err = b.await(ctx, path, func() error {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	return &intakeTarget{&intakeRow{Name: "webhook"}, "http://" + address + "/hooks/bench", http.StatusOK}, err
}

// run starts a program, whose output nobody needs.
func (b *intakeBench) run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start %s: %w", filepath.Base(name), err)
	}
	b.begun = append(b.begun, cmd)
	return nil
}

// intakeStart is how long a program may take to be ready.
const intakeStart = 30 * time.Second

func (b *intakeBench) await(ctx context.Context, what string, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, intakeStart)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("cannot measure: %s is not ready: %w", filepath.Base(what), err)
		}
	}
}

// stop ends the programs. How they end tells nothing.
func (b *intakeBench) stop() error {
	for _, cmd := range b.begun {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}
	return nil
}

// delivery makes the next delivery: a push like GitHub's, of 8 KB, that no other
// one is like.
func (b *intakeBench) delivery() intakeDelivery {
	b.sent++
	sha := fmt.Sprintf("%040x", b.sent)
	type commit struct {
		ID      string `json:"id"`
		Message string `json:"message"`
	}
	var commits []commit
	for range 16 {
		commits = append(commits, commit{sha, strings.Repeat("what changed, and why it had to. ", 13)})
	}
	body, err := json.Marshal(map[string]any{
		"ref": "refs/heads/main", "before": strings.Repeat("1", 40), "after": sha, "commits": commits,
		"repository": map[string]any{"full_name": "bench/intake", "clone_url": "https://git.example.org/bench/intake.git"},
	})
	if err != nil {
		return intakeDelivery{} // strings and maps of strings: never
	}
	return intakeDelivery{id: "bench-" + strconv.Itoa(b.sent), body: body, signature: webhook.Sign(b.secret, body)}
}

func (b *intakeBench) deliveries(count int) []intakeDelivery {
	all := make([]intakeDelivery, count)
	for i := range all {
		all[i] = b.delivery()
	}
	return all
}

// measure does one round with one program: first at a steady rate, then as fast
// as it can.
func (b *intakeBench) measure(ctx context.Context, t *intakeTarget, round int) error {
	load := newIntakeLoad(t, b.o.connections)
	defer load.close()
	steady, err := load.pace(ctx, b.deliveries(b.o.rate*b.o.seconds), time.Second/time.Duration(b.o.rate))
	if err != nil {
		return err
	}
	all := b.deliveries(b.o.requests)
	begun := time.Now()
	took, err := load.flood(ctx, all)
	if err != nil {
		return err
	}
	perSecond := float64(len(all)) / time.Since(begun).Seconds()
	r := t.row
	r.PerSecond = append(r.PerSecond, perSecond)
	r.P50, r.P99 = append(r.P50, quantile(took, 50)), append(r.P99, quantile(took, 99))
	r.SteadyP50, r.SteadyP99 = append(r.SteadyP50, quantile(steady, 50)), append(r.SteadyP99, quantile(steady, 99))
	fmt.Fprintf(b.e.err, "round %d: %s takes %.0f a second\n", round+1, r.Name, perSecond)
	return nil
}

// print prints the table of medians.
func (b *intakeBench) print(targets []*intakeTarget) error {
	var report intakeReport
	for _, t := range targets {
		report.Programs = append(report.Programs, t.row)
	}
	if b.o.json {
		return json.NewEncoder(b.e.out).Encode(report)
	}
	tw := tabwriter.NewWriter(b.e.out, 2, 8, 2, ' ', 0)
	fmt.Fprintf(tw, "\ta second\tp50\tp99\tat %d a second: p50\tp99\n", b.o.rate)
	for _, r := range report.Programs {
		fmt.Fprintf(tw, "%s\t%.0f\t%.1f ms\t%.1f ms\t%.1f ms\t%.1f ms\n", r.Name, median(r.PerSecond),
			median(r.P50), median(r.P99), median(r.SteadyP50), median(r.SteadyP99))
	}
	if len(report.Programs) == 2 {
		fmt.Fprintf(tw, "ratio\t%.2f times\n", median(report.Programs[0].PerSecond)/median(report.Programs[1].PerSecond))
	}
	return tw.Flush()
}
