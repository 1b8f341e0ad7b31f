package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// patience bounds what should come at once; it is never waited out in a test
// that passes.
const patience = 20 * time.Second

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func open(t *testing.T, dir string, ackWait time.Duration) *Bus {
	t.Helper()
	b, err := Start(testContext(t), Options{Dir: dir, Log: zerolog.Nop(), AckWait: ackWait})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func publish(t *testing.T, b *Bus, jobs ...Job) {
	t.Helper()
	for _, j := range jobs {
		if err := b.Publish(testContext(t), j); err != nil {
			t.Fatal(err)
		}
	}
}

func take(t *testing.T, b *Bus) *Lease {
	t.Helper()
	l, err := b.Next(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func done(t *testing.T, l *Lease) {
	t.Helper()
	if err := l.Done(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

func job() Job { return Job{Execution: uuid.NewString(), Generation: 1, Arch: "x86_64"} }

// empty fails the test if the queue still has a job: one that is published last
// must come first.
func empty(t *testing.T, b *Bus) {
	t.Helper()
	last := job()
	publish(t, b, last)
	l := take(t, b)
	if l.Execution != last.Execution {
		t.Errorf("the queue should be empty and has %+v", l.Job)
	}
	done(t, l)
}

func TestJobIsCarried(t *testing.T) {
	b := open(t, t.TempDir(), 0)
	for _, arch := range []string{"x86_64", "noarch", ""} {
		want := Job{Execution: uuid.NewString(), Generation: 3, Arch: arch}
		publish(t, b, want)
		l := take(t, b)
		if l.Job != want || l.Redelivered {
			t.Errorf("got %+v redelivered %v, want %+v for the first time", l.Job, l.Redelivered, want)
		}
		done(t, l)
	}
	empty(t, b)
}

func TestSameJobTwiceIsOne(t *testing.T) {
	b := open(t, t.TempDir(), 0)
	first := job()
	again := first
	again.Generation++
	publish(t, b, first, first, again)
	for _, want := range []Job{first, again} {
		l := take(t, b)
		if l.Job != want {
			t.Errorf("got %+v, want %+v", l.Job, want)
		}
		done(t, l)
	}
	empty(t, b)
}

func TestPublishRefusesWhatIsNoJob(t *testing.T) {
	b := open(t, t.TempDir(), 0)
	for _, j := range []Job{
		{},
		{Execution: "../../etc"},
		{Execution: strings.ToUpper(uuid.NewString())},
		{Execution: uuid.NewString(), Arch: "a.b"},
		{Execution: uuid.NewString(), Arch: ">"},
		{Execution: uuid.NewString(), Arch: strings.Repeat("x", 33)},
	} {
		err := b.Publish(testContext(t), j)
		if err == nil || !strings.HasPrefix(err.Error(), "cannot publish a job: its ") {
			t.Errorf("%+v: got %v", j, err)
		}
	}
}

func TestLapsedLeaseIsRedelivered(t *testing.T) {
	b := open(t, t.TempDir(), 300*time.Millisecond)
	want := job()
	publish(t, b, want)
	take(t, b) // and die
	l := take(t, b)
	if l.Job != want || !l.Redelivered {
		t.Errorf("got %+v redelivered %v, want the lapsed job again", l.Job, l.Redelivered)
	}
	done(t, l)
	empty(t, b)
}

// The first job is kept; a second one, taken later and not kept, lapses twice
// meanwhile. Were the first not kept alive, it would come in between.
// TestAbandonedLeaseAnswersNothing: whoever lost the job must not take it off the
// queue from under the one who has it.
func TestAbandonedLeaseAnswersNothing(t *testing.T) {
	b := open(t, t.TempDir(), 500*time.Millisecond)
	publish(t, b, job())
	first := take(t, b)
	first.Keep(testContext(t))
	first.Abandon()
	second := take(t, b) // once the first one has lapsed
	if !second.Redelivered {
		t.Error("the abandoned job did not come again as such")
	}
	done(t, second)
	empty(t, b)
}

func TestKeepPreventsRedelivery(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir(), 1500*time.Millisecond)
	kept, other := job(), job()
	publish(t, b, kept, other)
	l := take(t, b)
	l.Keep(t.Context())
	ctx := l.Context(t.Context())
	for range 3 {
		if again := take(t, b); again.Job != other {
			t.Fatalf("got %+v, want only the job that is not kept", again.Job)
		}
	}
	if ctx.Err() != nil {
		t.Errorf("the kept lease's context ended: %v", context.Cause(ctx))
	}
	done(t, l)
	if ctx.Err() == nil {
		t.Error("the context outlives Done")
	}
}

func TestReleaseGivesBack(t *testing.T) {
	b := open(t, t.TempDir(), 0) // the lease itself would last longer than the test
	for _, delay := range []time.Duration{0, 200 * time.Millisecond} {
		want := job()
		publish(t, b, want)
		l := take(t, b)
		l.Keep(t.Context())
		before := time.Now()
		if err := l.Release(testContext(t), delay); err != nil {
			t.Fatal(err)
		}
		l = take(t, b)
		if l.Job != want || !l.Redelivered {
			t.Errorf("got %+v redelivered %v", l.Job, l.Redelivered)
		}
		if d := time.Since(before); d < delay {
			t.Errorf("came back after %s, was to wait %s", d, delay)
		}
		done(t, l)
	}
	empty(t, b)
}

func TestLostLeaseEndsTheWork(t *testing.T) {
	b := open(t, t.TempDir(), 300*time.Millisecond)
	publish(t, b, job())
	l := take(t, b)
	ctx := l.Context(t.Context())
	l.Keep(t.Context())
	b.server.Shutdown() // the queue is gone; nobody answers
	select {
	case <-ctx.Done():
	case <-time.After(patience):
		t.Fatal("the work goes on without a lease")
	}
	if cause := context.Cause(ctx); !errors.Is(cause, ErrLeaseLost) {
		t.Errorf("the cause is %v", cause)
	}
	if late := l.Context(t.Context()); !errors.Is(context.Cause(late), ErrLeaseLost) {
		t.Errorf("a context made later ends with %v", context.Cause(late))
	}
}

func TestRestartKeepsJobs(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, time.Second)
	leased, waiting := job(), job()
	publish(t, b, leased, waiting)
	take(t, b)
	b.Close()

	b = open(t, dir, time.Second)
	got := map[string]bool{}
	for range 2 {
		l := take(t, b)
		got[l.Execution] = true
		done(t, l)
	}
	if !got[leased.Execution] || !got[waiting.Execution] {
		t.Errorf("after a restart got %v", got)
	}
	empty(t, b)
}

// A refill right after Purge uses the ids that the stream remembers.
func TestPurgeThenRefill(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, 0)
	jobs := []Job{job(), job(), job()}
	publish(t, b, jobs...)
	take(t, b)
	b.Close()

	b = open(t, dir, 0)
	if err := b.Purge(testContext(t)); err != nil {
		t.Fatal(err)
	}
	empty(t, b)
	publish(t, b, jobs...)
	for _, want := range jobs {
		l := take(t, b)
		if l.Job != want || l.Redelivered {
			t.Errorf("got %+v redelivered %v, want %+v anew", l.Job, l.Redelivered, want)
		}
		done(t, l)
	}
}

func TestMalformedMessagesAreRemoved(t *testing.T) {
	var log bytes.Buffer
	b, err := Start(testContext(t), Options{Dir: t.TempDir(), Log: zerolog.New(&log).Level(zerolog.WarnLevel), AckWait: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	bad := []string{"", "{", "[]", `{"execution":"../x"}`, `{"execution":7}`, "\x00\xff"}
	for _, data := range bad {
		if _, err := b.js.Publish(testContext(t), "assay.jobs.any", []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	empty(t, b)
	if n := strings.Count(log.String(), "not a job"); n != len(bad) {
		t.Errorf("%d lines in the log, want %d:\n%s", n, len(bad), log.String())
	}
	stream, err := b.js.Stream(testContext(t), streamName)
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Msgs; n != 0 {
		t.Errorf("%d messages are left on the stream", n)
	}
}

func TestEveryJobOnce(t *testing.T) {
	b := open(t, t.TempDir(), 0)
	const jobs, takers = 200, 4
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	var mu sync.Mutex
	seen := map[string]int{}
	var wg sync.WaitGroup
	for range takers {
		wg.Go(func() {
			for {
				l, err := b.Next(ctx)
				if err != nil {
					return
				}
				l.Keep(ctx)
				if err := l.Done(ctx); err != nil {
					t.Error(err)
				}
				mu.Lock()
				if seen[l.Execution]++; len(seen) == jobs {
					cancel()
				}
				mu.Unlock()
			}
		})
	}
	for i := range jobs {
		publish(t, b, Job{Execution: uuid.NewString(), Arch: fmt.Sprint("a", i%3)})
	}
	wg.Wait()
	if len(seen) != jobs {
		t.Fatalf("%d of %d jobs came", len(seen), jobs)
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s came %d times", id, n)
		}
	}
	empty(t, b)
}

func TestNextEnds(t *testing.T) {
	b := open(t, t.TempDir(), 0)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 2)
	go func() { _, err := b.Next(ctx); got <- err }()
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("after the context: %v", err)
	}
	go func() { _, err := b.Next(t.Context()); got <- err }()
	b.Close()
	if err := <-got; !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := b.Publish(testContext(t), job()); err == nil {
		t.Error("a closed bus took a job")
	}
}

// A caller that leaves Next must not take a job with it for as long as AckWait.
func TestJobForACallerThatLeftIsGivenBack(t *testing.T) {
	b := open(t, t.TempDir(), time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for i := range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			l, err := b.Next(ctx)
			if err == nil {
				err = l.Done(t.Context())
			}
			left <- err
		}()
		if i%2 == 0 {
			cancel()
		}
		want := job()
		publish(t, b, want)
		if i%2 == 1 {
			cancel()
		}
		if <-left != nil { // not taken by it, so it must come now
			l := take(t, b)
			if l.Job != want {
				t.Fatalf("got %+v, want %+v", l.Job, want)
			}
			done(t, l)
		}
		cancel()
	}
}

func TestKeepAfterCloseEndsAtOnce(t *testing.T) {
	b := open(t, t.TempDir(), 0)
	publish(t, b, job())
	l := take(t, b)
	b.Close()
	l.Keep(t.Context())
	if err := l.Done(testContext(t)); err == nil {
		t.Error("a closed bus confirmed an end")
	}
}

func FuzzJob(f *testing.F) {
	f.Add([]byte(`{"execution":"8c5a1f0e-7a0f-4b7e-9d43-0b9f2c1d4e5f","generation":2,"arch":"x86_64"}`))
	f.Add([]byte(`{"execution":"..","generation":1e99}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		j, err := readJob(data)
		if err != nil {
			return
		}
		msg, err := j.message()
		if err != nil {
			t.Fatalf("a job that was read cannot be written: %v", err)
		}
		if again, err := readJob(msg.Data); err != nil || again != j {
			t.Fatalf("%+v became %+v, %v", j, again, err)
		}
		if strings.Count(msg.Subject, ".") != 2 || strings.ContainsAny(msg.Subject, "*> ") {
			t.Fatalf("the subject is %q", msg.Subject)
		}
	})
}
