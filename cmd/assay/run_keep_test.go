package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/checks"
	"github.com/assay-ci/assay/runner"
)

// mortal is a machine that can die, and tells when it is closed.
type mortal struct {
	runner.Machine
	died   chan struct{}
	closed int
	err    error
}

func (m *mortal) Close() error          { m.closed++; return m.err }
func (m *mortal) Done() <-chan struct{} { return m.died }

func TestKeptMachine(t *testing.T) {
	tests := map[string]struct {
		flag   keepFlag
		end    func(context.CancelFunc, *mortal)
		after  time.Duration // how long it stays, by the bubble's clock
		says   string
		closes error
	}{
		"until Ctrl-C":      {flag: keepFlag{on: true}, end: func(cancel context.CancelFunc, _ *mortal) { time.Sleep(time.Hour); cancel() }, after: time.Hour, says: "until you press Ctrl-C here. From"},
		"for a time":        {flag: keepFlag{on: true, time: 30 * time.Minute}, after: 30 * time.Minute, says: "until you press Ctrl-C here, or until "},
		"until it dies":     {flag: keepFlag{on: true}, end: func(_ context.CancelFunc, m *mortal) { time.Sleep(time.Minute); close(m.died) }, after: time.Minute, says: "the machine has died"},
		"which stays stuck": {flag: keepFlag{on: true, time: time.Minute}, after: time.Minute, closes: errors.New("stuck")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var said bytes.Buffer
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				m := &mortal{died: make(chan struct{}), err: tt.closes}
				k := &kept{env: &env{err: &said}, execution: "the-id", flag: tt.flag}
				if !k.take(assay.Conclusion{Verdict: assay.VerdictPassed}, m) {
					t.Fatal("it was not taken")
				}
				if tt.end != nil {
					go tt.end(cancel, m)
				}
				begun := time.Now()
				if err := k.wait(ctx); !errors.Is(err, tt.closes) {
					t.Errorf("it ended with %v", err)
				}
				if stayed := time.Since(begun); stayed != tt.after || m.closed != 1 {
					t.Errorf("it stayed %s and was closed %d times", stayed, m.closed)
				}
				if !strings.Contains(said.String(), "\n  assay vm shell the-id\n") || !strings.Contains(said.String(), tt.says) {
					t.Errorf("it said:\n%s", said.String())
				}
				if gone := strings.Contains(said.String(), "it is gone"); gone != (tt.closes == nil) {
					t.Errorf("it said:\n%s", said.String())
				}
			})
		})
	}
}

func TestNotKept(t *testing.T) {
	var said bytes.Buffer
	k := &kept{env: &env{err: &said}}
	m := &mortal{}
	if k.take(assay.Conclusion{Verdict: assay.VerdictFailed}, m) || said.Len() > 0 {
		t.Errorf("kept although nobody asked: %s", said.String())
	}
	if err := k.wait(t.Context()); err != nil || said.Len() > 0 {
		t.Errorf("told although nobody asked: %s (%v)", said.String(), err)
	}
	k.flag.on = true // but the machine died: the runner does not offer it
	if err := errors.Join(k.wait(t.Context()), k.give()); err != nil || m.closed != 0 {
		t.Errorf("closed %d times: %v", m.closed, err)
	}
	if !strings.Contains(said.String(), "not kept") {
		t.Errorf("it said: %s", said.String())
	}
}

func TestSayMissing(t *testing.T) {
	for environment, want := range map[string]string{
		"": "",
		"environment: {image: debian-12, cpus: 2, memory: 1GiB, rpm: [gcc, make], deb: [cpp], setup: ['true', 'false'], network: full}\n": "assay: c asks for what is not set up here, but only with --vm: " +
			"image debian-12; cpus 2; memory 1 GiB; rpm gcc, make; deb cpp; setup (2 commands); network full\n",
	} {
		f, err := checks.Parse("runtask.yml", []byte(formula("c", "true")+environment))
		if err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		sayMissing(&env{err: &said}, f)
		if said.String() != want {
			t.Errorf("got %q, want %q", said.String(), want)
		}
	}
}
