package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/runner"
)

func newEventShowCommand(e *env) *cobra.Command {
	var server serverFlags
	var body, asJSON bool
	cmd := &cobra.Command{
		Use:   "show EVENT",
		Short: "Show an event: headers, what became of it, its executions",
		Long: `Show tells all that the server on this host knows of an event: what was delivered,
when and how often, what became of it or why nothing did, and the executions that
it made, with their verdicts and pages.

With --body it prints the body of the delivery and nothing else: JSON is indented
and means the same, in anything else what does not print is written out, as \x1b.
With --body and --json the body is in the member "body", in base64, as it came.`,
		Example: `  assay event show 0198c0de-0000-7000-8000-000000000001
  assay event show 0198c0de-0000-7000-8000-000000000001 --body | jq .ref`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := server.connect()
			if err != nil {
				return err
			}
			return showEvent(cmd.Context(), e, c, args[0], body, asJSON)
		},
	}
	server.add(cmd)
	cmd.Flags().BoolVar(&body, "body", false, "print the body of the delivery")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func showEvent(ctx context.Context, e *env, c *controlClient, id string, body, asJSON bool) error {
	path := "/v1/events/" + url.PathEscape(id)
	if body {
		path += "?body=1"
	}
	var d eventDetail
	if err := c.call(ctx, http.MethodGet, path, &d); err != nil {
		return err
	}
	switch {
	case asJSON:
		return printJSON(e, d)
	case body && len(d.Body) == 0:
		return fmt.Errorf("cannot print the body of event %s: it has none, or that was too old to be kept", d.ID)
	case body:
		return printBody(e, d.Body)
	}
	return errors.Join(d.printFacts(e.out), d.printHeader(e.out), d.printExecutions(e.out))
}

// printFacts prints what is known, a line each.
func (d eventDetail) printFacts(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	say := func(name, text string) {
		if text = shown(text); text != "" {
			fmt.Fprintf(tw, "%s\t%s\n", name, text)
		}
	}
	say("Event", d.ID)
	say("State", d.State)
	say("Reason", d.Note)
	say("Received", d.Received.UTC().Format(time.DateTime)+" UTC")
	say("From", d.Source)
	say("Origin", d.Origin)
	say("Delivery", d.Delivery)
	say("Kind", d.Kind)
	say("Repository", d.Repository)
	say("Ref", d.Ref)
	say("Commit", strings.TrimPrefix(d.Before+" → "+d.Commit, " → "))
	if d.PullRequest > 0 {
		say("Pull request", fmt.Sprint(d.PullRequest))
	}
	say("Author", d.author())
	say("Status", d.Context)
	say("Package", d.Package)
	say("Build", d.Build)
	if d.Repeats > 0 {
		say("Again", fmt.Sprintf("%d more deliveries said the same", d.Repeats))
	}
	if d.Tries > 1 {
		say("Tries", fmt.Sprint(d.Tries))
	}
	say("Body", d.bodyWords())
	say("Page", d.URL)
	return tw.Flush()
}

// author names who did it, and says so where the forge does not vouch for them.
func (d eventDetail) author() string {
	switch assay.EventKind(d.Kind) {
	case assay.EventPullRequest, assay.EventComment, assay.EventRerun:
		if !d.Trusted {
			return strings.TrimSpace(d.Author + " (may not write to the repository)")
		}
	}
	return d.Author
}

func (d eventDetail) bodyWords() string {
	if d.Size == 0 {
		return "none, or too old to be kept"
	}
	return runner.Bytes(d.Size) + ": see --body"
}

func (d eventDetail) printHeader(w io.Writer) error {
	if len(d.Header) == 0 {
		return nil
	}
	var names []string
	for name := range d.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	_, err := fmt.Fprintln(w, "\nHeaders")
	for _, name := range names {
		_, more := fmt.Fprintf(w, "  %s: %s\n", shown(name), shown(strings.Join(d.Header[name], ", ")))
		err = errors.Join(err, more)
	}
	return err
}

func (d eventDetail) printExecutions(w io.Writer) error {
	if len(d.Executions) == 0 {
		_, err := fmt.Fprintln(w, "\nNo executions.")
		return err
	}
	fmt.Fprintln(w, "\nExecutions")
	tw := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	matrix := slices.ContainsFunc(d.Executions, func(x executionItem) bool { return x.Variant != "" })
	for _, x := range d.Executions {
		cells := []string{shown(cmp.Or(x.Verdict, x.State)), clipped(shown(x.Check), 40), clipped(shown(x.Arch), 20)}
		if matrix {
			cells = append(cells, clipped(shown(x.Variant), 40))
		}
		cells = append(cells, clipped(shown(x.Item), 60), shown(x.URL), clipped(shown(x.Reason), 100))
		fmt.Fprintf(tw, "  %s\n", strings.Join(cells, "\t"))
	}
	return tw.Flush()
}

func newEventReplayCommand(e *env) *cobra.Command {
	var server serverFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "replay EVENT...",
		Short: "Have events done once more",
		Long: `Replay makes a new event of the delivery that the server kept, as if it came now
for the first time, and plans it: with the configuration, the check repositories
and the program as they are now. It says nothing to whoever sent the delivery, and
statuses land on the commits that it is about, however old they are.

An event that would be ignored once more is refused, and so is one that is still
to be planned.`,
		Example: `  assay event replay 0198c0de-0000-7000-8000-000000000001
  assay event list --state failed --since 24h --json | jq -r '.[].id' | xargs assay event replay`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := server.connect()
			if err != nil {
				return err
			}
			return replayEvents(cmd.Context(), e, c, args, asJSON)
		},
	}
	server.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON: a line {event, url, of} for each")
	return cmd
}

// replayEvents goes on after one that is refused: the others are none the worse.
func replayEvents(ctx context.Context, e *env, c *controlClient, ids []string, asJSON bool) error {
	var failed []error
	for _, id := range ids {
		var made replayed
		err := c.call(ctx, http.MethodPost, "/v1/events/"+url.PathEscape(id)+"/replay", &made)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch {
		case err != nil:
			failed = append(failed, err)
		case asJSON:
			failed = append(failed, printJSON(e, made))
		default:
			fmt.Fprintf(e.out, "replayed: %s\n", shown(made.URL))
		}
	}
	return errors.Join(failed...)
}
