package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/web"
)

// listOptions are the flags of assay event list.
type listOptions struct {
	serverFlags
	source, kind, state, repo, pkg string
	since, until, before           string
	limit                          int
	asJSON                         bool
}

func newEventListCommand(e *env) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what was delivered, the newest first",
		Long: `List shows the events of the server on this host: when they came, from where, what
became of them, how many executions they made, how often they were delivered
again, and why nothing came of them. Without a filter it shows the newest 50.

The state of an event is new (its checks are being looked up), planned, ignored
(there is nothing to do) or failed (given up on).`,
		Example: `  assay event list --state failed
  assay event list --source github --since 24h
  assay event list --repo example/hello --kind push --since 2026-11-01 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return usageError(cmd, err)
			}
			return o.run(cmd.Context(), e)
		},
	}
	f := cmd.Flags()
	o.add(cmd)
	f.StringVar(&o.source, "source", "", "only from this intake, such as github, build or git")
	f.StringVar(&o.kind, "kind", "", "only of this kind: push, pull_request, build, comment or rerun")
	f.StringVar(&o.state, "state", "", "only in this state: new, planned, ignored or failed")
	f.StringVar(&o.repo, "repo", "", "only about repositories with this in their name")
	f.StringVar(&o.pkg, "package", "", "only of this package, such as rpms/hello")
	f.StringVar(&o.since, "since", "", "only what came since: how long ago (90m, 24h, 7d), a day (2026-11-21) or a time")
	f.StringVar(&o.until, "until", "", "only what came before, written as for --since")
	f.StringVar(&o.before, "before", "", "only what is older than this event, to go on where a list ended")
	f.IntVar(&o.limit, "limit", 50, "at most so many; no more than 1,000")
	f.BoolVar(&o.asJSON, "json", false, "as JSON: a list of events")
	return cmd
}

// check finds what is wrong with the flags before a server is asked.
func (o *listOptions) check() error {
	switch assay.EventState(o.state) {
	case "", assay.EventNew, assay.EventPlanned, assay.EventIgnored, assay.EventFailed:
	default:
		return fmt.Errorf("there is no state %q: write new, planned, ignored or failed", o.state)
	}
	for _, text := range []string{o.since, o.until} {
		if text == "" {
			continue
		}
		if _, err := web.ParseMoment(text, time.Now()); err != nil {
			return err
		}
	}
	if o.limit < 1 || o.limit > 1000 {
		return fmt.Errorf("cannot list %d events: write 1 to 1000", o.limit)
	}
	return nil
}

func (o *listOptions) query() string {
	values := url.Values{"limit": {strconv.Itoa(o.limit)}}
	for name, value := range map[string]string{
		"source": o.source, "kind": o.kind, "state": o.state, "repo": o.repo, "package": o.pkg,
		"since": o.since, "until": o.until, "before": o.before,
	} {
		if value != "" {
			values.Set(name, value)
		}
	}
	return values.Encode()
}

func (o *listOptions) run(ctx context.Context, e *env) error {
	server, err := o.connect()
	if err != nil {
		return err
	}
	var list []eventItem
	if err := server.call(ctx, http.MethodGet, "/v1/events?"+o.query(), &list); err != nil {
		return err
	}
	if o.asJSON {
		return printJSON(e, list)
	}
	if len(list) == 0 {
		fmt.Fprintln(e.err, "No event matches.")
		return nil
	}
	tw := tabwriter.NewWriter(e.out, 2, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "RECEIVED\tEVENT\tSOURCE\tKIND\tSTATE\tMADE\tAGAIN\tABOUT")
	for _, it := range list {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n", it.Received.UTC().Format(time.DateTime), shown(it.ID),
			clipped(shown(it.Source), 20), clipped(shown(it.Kind), 20), shown(it.State), it.Made, it.Repeats, it.about())
	}
	return tw.Flush()
}

// about is the end of a line: what the event is about, and why nothing came of
// it.
func (it eventItem) about() string {
	const longest = 100 // characters of a reason
	about := it.Repository
	switch {
	case it.Build != "":
		about = it.Build
	case it.PullRequest > 0:
		about += fmt.Sprintf(" pull request %d", it.PullRequest)
	case it.Ref != "":
		about += " " + strings.TrimPrefix(it.Ref, "refs/heads/")
	}
	about = clipped(shown(about), 60)
	if it.Origin != "" {
		about += " (" + clipped(shown(it.Origin), 20) + ")"
	}
	if it.Note != "" && it.Made == 0 {
		about += ": " + clipped(shown(it.Note), longest)
	}
	return about
}
