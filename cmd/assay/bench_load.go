package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// intakeDelivery is one signed delivery.
type intakeDelivery struct {
	id, signature string
	body          []byte
}

// intakeLoad sends deliveries to one program.
type intakeLoad struct {
	target      *intakeTarget
	connections int
	client      *http.Client
}

func newIntakeLoad(t *intakeTarget, connections int) *intakeLoad {
	transport := &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections}
	return &intakeLoad{t, connections, &http.Client{Transport: transport, Timeout: 30 * time.Second}}
}

func (l *intakeLoad) close() { l.client.CloseIdleConnections() }

// flood sends all as fast as they are taken. It returns how long each took.
func (l *intakeLoad) flood(ctx context.Context, all []intakeDelivery) ([]time.Duration, error) {
	took := make([]time.Duration, len(all))
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range l.connections {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(all) {
					return nil
				}
				begun := time.Now()
				if err := l.send(ctx, all[i]); err != nil {
					return err
				}
				took[i] = time.Since(begun)
			}
		})
	}
	return took, group.Wait()
}

// pace sends one in each interval, whether or not earlier ones were answered. A
// delivery's time begins when it should have been sent: so a stall counts for all
// that it holds up.
func (l *intakeLoad) pace(ctx context.Context, all []intakeDelivery, interval time.Duration) ([]time.Duration, error) {
	took := make([]time.Duration, len(all))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4 * l.connections)
	begun := time.Now()
	for i, d := range all {
		due := begun.Add(time.Duration(i) * interval)
		timer := time.NewTimer(time.Until(due))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, group.Wait()
		}
		group.Go(func() error {
			err := l.send(ctx, d)
			took[i] = time.Since(due)
			return err
		})
	}
	return took, group.Wait()
}

func (l *intakeLoad) send(ctx context.Context, d intakeDelivery) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.target.url, bytes.NewReader(d.body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-GitHub-Event", "push")
	request.Header.Set("X-GitHub-Delivery", d.id)
	request.Header.Set("X-Hub-Signature-256", d.signature)
	response, err := l.client.Do(request)
	if err != nil {
		return fmt.Errorf("cannot measure %s: %w", l.target.row.Name, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err == nil && response.StatusCode != l.target.taken {
		err = fmt.Errorf("it answered %s: %.200q", response.Status, text)
	}
	if err != nil {
		return fmt.Errorf("cannot measure %s: %w", l.target.row.Name, err)
	}
	return nil
}

// quantile is in milliseconds.
func quantile(list []time.Duration, percent int) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)].Seconds() * 1000
}
