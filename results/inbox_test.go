package results

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/assay-ci/assay"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// hour is a moment of the tests: so many hours after the first.
func hour(n int) time.Time {
	return time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Hour)
}

func keepEvent(t *testing.T, s *Store, e assay.Event, body string) string {
	t.Helper()
	id, fresh, err := s.AddEvent(t.Context(), e, http.Header{"Content-Type": {"application/json"}}, []byte(body))
	if err != nil || !fresh {
		t.Fatalf("fresh %v, %v", fresh, err)
	}
	return id
}

func buildOf(pkg string, n int) assay.Event {
	return assay.Event{Source: "build", Delivery: fmt.Sprint(pkg, n), Kind: assay.EventBuild, Received: hour(n), Repo: "example.org/" + pkg,
		Build: &assay.Build{ID: fmt.Sprint(n), Package: pkg, Version: fmt.Sprint(n), Release: "1"}}
}

// runCheck plans an execution for an event.
func runCheck(t *testing.T, s *Store, event, pkg, check string, reports ...assay.Report) assay.Execution {
	t.Helper()
	e := assay.Execution{ID: uuid.NewString(), Package: pkg, Check: check, Arch: "x86_64", Target: assay.Commit{Repo: "r", SHA: event}, Created: hour(0)}
	if err := s.PlanEvent(t.Context(), event, assay.Decision{Executions: []assay.Execution{e}, Reports: reports}); err != nil {
		t.Fatal(err)
	}
	return e
}

func inboxOf(t *testing.T, s *Store, f assay.InboxFilter) []assay.InboxEntry {
	t.Helper()
	list, err := s.Inbox(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestInboxFilters(t *testing.T) {
	s := openTest(t)
	ids := map[string]string{} // by ID, the name here
	add := func(name string, e assay.Event) string {
		id := keepEvent(t, s, e, strings.Repeat("x", len(name)))
		ids[id] = name
		return id
	}
	b1 := add("build1", buildOf("rpms/hello", 1))
	add("build2", buildOf("rpms/gzip", 2))
	add("push", assay.Event{Source: "github", Delivery: "3", Kind: assay.EventPush, Received: hour(3), Repo: "github.com/Example/100%_ok"})
	add("ignored", assay.Event{Source: "github", Delivery: "4", Kind: assay.EventPush, Received: hour(4), Repo: "github.com/example/nano", Ignored: "a tag"})
	failed := add("failed", assay.Event{Source: "git", Delivery: "5", Kind: assay.EventPush, Received: hour(4), Repo: "/srv/git/x.git"})
	runCheck(t, s, b1, "rpms/hello", "greets")
	if err := s.FailEvent(t.Context(), failed, "no such repository", nil); err != nil {
		t.Fatal(err)
	}
	all := inboxOf(t, s, assay.InboxFilter{})
	for _, tt := range []struct {
		name   string
		filter assay.InboxFilter
		want   string
	}{
		{"all", assay.InboxFilter{}, "failed ignored push build2 build1"},
		{"limit", assay.InboxFilter{Limit: 1}, "failed"},
		{"source", assay.InboxFilter{Source: "github"}, "ignored push"},
		{"kind", assay.InboxFilter{Kind: assay.EventBuild}, "build2 build1"},
		{"state", assay.InboxFilter{State: assay.EventNew}, "push build2"},
		{"planned", assay.InboxFilter{State: assay.EventPlanned}, "build1"},
		{"package", assay.InboxFilter{Package: "rpms/hello"}, "build1"},
		{"repo, any case", assay.InboxFilter{Repo: "eXample/"}, "ignored push"},
		{"repo, no wildcards", assay.InboxFilter{Repo: "100%_"}, "push"},
		{"a wildcard", assay.InboxFilter{Repo: "%"}, "push"},
		{"a backslash", assay.InboxFilter{Repo: `\`}, ""},
		{"since", assay.InboxFilter{Since: hour(3)}, "failed ignored push"},
		{"until", assay.InboxFilter{Until: hour(3)}, "build2 build1"},
		{"between", assay.InboxFilter{Since: hour(2), Until: hour(4)}, "push build2"},
		{"before", assay.InboxFilter{Before: all[1].ID}, "push build2 build1"},
		{"before, same time", assay.InboxFilter{Before: all[0].ID, Limit: 1}, "ignored"},
		{"all together", assay.InboxFilter{Source: "build", Kind: "build", State: "new", Repo: "gzip", Package: "rpms/gzip", Since: hour(1), Until: hour(9), Before: all[0].ID}, "build2"},
		{"nothing", assay.InboxFilter{Source: "' OR 1=1 --"}, ""},
	} {
		var got []string
		for _, e := range inboxOf(t, s, tt.filter) {
			got = append(got, ids[e.ID])
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: got %v, want %s", tt.name, got, tt.want)
		}
	}
	_, err := s.Inbox(t.Context(), assay.InboxFilter{Before: uuid.NewString()})
	if !errors.Is(err, assay.ErrNotFound) {
		t.Errorf("before an unknown event: %v", err)
	}
}

func TestInboxEntry(t *testing.T) {
	s := openTest(t)
	e := buildOf("rpms/hello", 1)
	id := keepEvent(t, s, e, "12345")
	runCheck(t, s, id, "rpms/hello", "greets")
	for range 3 {
		if again, fresh, err := s.AddEvent(t.Context(), e, nil, nil); err != nil || fresh || again != id {
			t.Fatal(again, fresh, err)
		}
	}
	record, err := s.Event(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	want := assay.InboxEntry{EventRecord: record, Repeats: 3, Executions: 1, Size: 5}
	got, err := s.InboxEntry(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]assay.InboxEntry{want, want}, append(inboxOf(t, s, assay.InboxFilter{}), got)); diff != "" {
		t.Error(diff)
	}
	if _, err := s.InboxEntry(t.Context(), "x"); !errors.Is(err, assay.ErrNotFound) {
		t.Errorf("an unknown event: %v", err)
	}
}

func TestInboxPagesShowEveryEventOnce(t *testing.T) {
	s := openTest(t)
	for i := range 25 {
		keepEvent(t, s, assay.Event{Source: "git", Delivery: fmt.Sprint(i), Received: hour(i / 6)}, "")
	}
	seen, pages := map[string]bool{}, 0
	for f := (assay.InboxFilter{Limit: 4}); ; pages++ {
		list := inboxOf(t, s, f)
		if len(list) == 0 {
			break
		}
		for _, e := range list {
			if seen[e.ID] {
				t.Fatalf("%s is there twice", e.ID)
			}
			seen[e.ID] = true
		}
		f.Before = list[len(list)-1].ID
	}
	if len(seen) != 25 || pages != 7 {
		t.Errorf("%d events on %d pages", len(seen), pages)
	}
}

// Pages come out of an index in their order, whatever is asked for.
func TestInboxUsesIndexes(t *testing.T) {
	s := openTest(t)
	for _, f := range []assay.InboxFilter{
		{}, {Source: "s"}, {Kind: "push"}, {State: "new"}, {Package: "p"}, {Repo: "r"}, {Since: hour(1)}, {Until: hour(1)},
		{State: "new", Source: "s", Repo: "r"}, {Package: "p", State: "new", Since: hour(1)},
	} {
		for _, before := range []string{"", "id"} {
			f.Before = before
			query, args := inboxQuery(f, 7)
			checkPlan(t, s, query, args...)
		}
	}
	checkPlan(t, s, countQuery, "new", 1)
}

func TestCountEvents(t *testing.T) {
	s := openTest(t)
	for i := range 3 {
		keepEvent(t, s, assay.Event{Source: "git", Delivery: fmt.Sprint(i)}, "")
	}
	keepEvent(t, s, assay.Event{Source: "git", Ignored: "why"}, "")
	got, err := s.CountEvents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[assay.EventState]int{assay.EventNew: 3, assay.EventIgnored: 1}, got); diff != "" {
		t.Error(diff)
	}
}

func TestDeliveryPart(t *testing.T) {
	s := openTest(t)
	id := keepEvent(t, s, buildOf("rpms/hello", 1), "\x00\xff456789")
	for max, want := range map[int]string{0: "", 3: "\x00\xff4", 8: "\x00\xff456789", 9: "\x00\xff456789"} {
		header, body, size, err := s.DeliveryPart(t.Context(), id, max)
		if err != nil || string(body) != want || size != 8 || header.Get("Content-Type") != "application/json" {
			t.Errorf("%d bytes: %q of %d, %v, %v", max, body, size, header, err)
		}
	}
	if _, _, _, err := s.DeliveryPart(t.Context(), "x", 1); !errors.Is(err, assay.ErrNotFound) {
		t.Errorf("an unknown event: %v", err)
	}
}
