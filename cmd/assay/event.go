package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/webhook"
)

func newEventCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "event",
		Short: "Tell a server what happened, and see what became of it",
		Long: `Whatever a forge, a build system or a git hook delivers is an event. The server
keeps each one, with what it was made from, what came of it, or why nothing did.

send speaks to any server over HTTP, signed, as a build system does. list, show
and replay are for the operator: they ask the server that runs on this host, over
a socket in its data directory that only its own user and root can open.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newEventSendCommand(e), newEventListCommand(e), newEventShowCommand(e), newEventReplayCommand(e))
	return cmd
}

// buildEvent is the body of a build event; see package webhook.
type buildEvent struct {
	Package    string   `json:"package"`
	Version    string   `json:"version"`
	Release    string   `json:"release"`
	Arch       string   `json:"arch,omitempty"`
	Commit     string   `json:"commit"`
	BuildID    string   `json:"build_id"`
	Repository string   `json:"repository,omitempty"`
	Branch     string   `json:"branch,omitempty"`
	Artifacts  []string `json:"artifacts,omitempty"`
}

// sendOptions are the flags of assay event send.
type sendOptions struct {
	build                        buildEvent
	server, secretFile, delivery string
	asJSON                       bool
}

func newEventSendCommand(e *env) *cobra.Command {
	var o sendOptions
	cmd := &cobra.Command{
		Use:   "send",
		Short: "Report a completed build, as a build system does",
		Long: `Send posts a signed "build completed" event to SERVER/hooks/build. A build
system without a webhook of its own calls it at the end of a build.`,
		Example: `  assay event send --server http://127.0.0.1:8087 --secret-file webhook.secret \
      --package rpms/hello --version 1.0 --release 1.fc42 --commit $(git rev-parse HEAD)`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return send(cmd.Context(), e, o) },
	}
	b, f := &o.build, cmd.Flags()
	f.StringVar(&o.server, "server", "http://"+config.Default().Listen, "the server's address")
	f.StringVar(&o.secretFile, "secret-file", "", "file with the webhook secret")
	f.StringVar(&b.Package, "package", "", "package, such as rpms/hello")
	f.StringVar(&b.Version, "version", "", "its version")
	f.StringVar(&b.Release, "release", "", "its release, such as 1.fc42")
	f.StringVar(&b.Arch, "arch", "", "architecture of the build")
	f.StringVar(&b.Commit, "commit", "", "commit it was built from")
	f.StringVar(&b.BuildID, "build-id", "", "the build system's own id (default: the delivery's)")
	f.StringVar(&b.Repository, "repository", "", "address it was built from, for the record")
	f.StringVar(&b.Branch, "branch", "", "check branch to use, instead of the release's")
	f.StringArrayVar(&b.Artifacts, "artifact", nil, "address of what was built; may be repeated")
	f.StringVar(&o.delivery, "delivery", "", "id of this delivery: the same one again is the same event (default: a new one)")
	f.BoolVar(&o.asJSON, "json", false, "print the receipt as JSON")
	require(cmd, "secret-file", "package", "version", "release", "commit")
	return cmd
}

func send(ctx context.Context, e *env, o sendOptions) error {
	secret, err := config.ReadSecret(o.secretFile)
	if err != nil {
		return err
	}
	if o.delivery == "" {
		o.delivery = uuid.NewString()
	}
	if o.build.BuildID == "" {
		o.build.BuildID = o.delivery
	}
	receipt, err := postBuild(ctx, o.server, o.delivery, secret, o.build)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("cannot reach the server at %s: nothing listens there: start assay serve, or give its address with --server", o.server)
	}
	if err != nil {
		return err
	}
	if o.asJSON {
		return json.NewEncoder(e.out).Encode(map[string]any{
			"event": receipt.Event, "url": receipt.URL, "fresh": receipt.Fresh, "ignored": receipt.Ignored,
		})
	}
	switch {
	case receipt.Ignored != "":
		fmt.Fprintf(e.out, "taken, but nothing is done about it: %s\n%s\n", receipt.Ignored, receipt.URL)
	case !receipt.Fresh:
		fmt.Fprintf(e.out, "known already: %s\n", receipt.URL)
	default:
		fmt.Fprintf(e.out, "taken: %s\n", receipt.URL)
	}
	return nil
}

func postBuild(ctx context.Context, server, delivery string, secret []byte, b buildEvent) (webhook.Receipt, error) {
	body, err := json.Marshal(b)
	if err != nil {
		return webhook.Receipt{}, err
	}
	return webhook.Post(ctx, nil, server, "build", delivery, secret, body)
}
