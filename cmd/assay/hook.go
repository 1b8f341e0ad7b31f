package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-ci/assay/checks"
	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/hooks"
	"github.com/assay-ci/assay/repo"
	"github.com/assay-ci/assay/webhook"
)

func newHookCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hook",
		Short: "Install assay's git hooks in check repositories",
		Long: `The hooks refuse a push with mistakes in a formula, and tell the server of
every other one, so that a changed check is tried at once. Where the server does
not answer the event is kept beside the repository and delivered later.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newHookInstallCommand(e), newHookUninstallCommand(e), newHookCheckCommand(e),
		newPreReceiveCommand(e), newPostReceiveCommand(e), newDeliverCommand(e),
	)
	return cmd
}

func newHookInstallCommand(e *env) *cobra.Command {
	var server, secretFile, name string
	cmd := &cobra.Command{
		Use:   "install REPOSITORY...",
		Short: "Install the hooks in repositories on this host",
		Long: `Install puts a pre-receive and a post-receive hook into each repository. A hook
that is there already goes on working: it moves to pre-receive.d/50-existing.`,
		Example: "  assay hook install /srv/git/checks/hello.git --server http://127.0.0.1:8087 --secret-file webhook.secret",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if name != "" && len(args) > 1 {
				return usagef(cmd, "--name is for one repository")
			}
			exe, err := os.Executable()
			if err != nil {
				return fmt.Errorf("cannot find this program: %w", err)
			}
			secret, err := filepath.Abs(secretFile)
			if err != nil {
				return err
			}
			if _, err := config.ReadSecret(secret); err != nil {
				return err
			}
			for _, dir := range args {
				o := hooks.Options{GitDir: dir, Exe: exe, Server: server, SecretFile: secret, Name: name}
				if o.HooksPath, err = repo.HooksPath(cmd.Context(), dir); err != nil {
					return err
				}
				if err := hooks.Install(o); err != nil {
					return err
				}
				fmt.Fprintf(e.out, "%s: hooks installed\n", dir)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&server, "server", "http://"+config.Default().Listen, "the server's address")
	cmd.Flags().StringVar(&secretFile, "secret-file", "", "file with the webhook secret; whoever pushes must be able to read it")
	cmd.Flags().StringVar(&name, "name", "", "the repository as the server's configuration names it (default: its path)")
	require(cmd, "secret-file")
	return cmd
}

func newHookUninstallCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "uninstall REPOSITORY...",
		Short: "Take the hooks out again and restore those that were there before",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			for _, dir := range args {
				if err := hooks.Uninstall(dir); err != nil {
					return err
				}
				fmt.Fprintf(e.out, "%s: hooks removed\n", dir)
			}
			return nil
		},
	}
}

func newHookCheckCommand(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check REPOSITORY...",
		Short: "Tell what is installed in repositories, and what is wrong",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			bad := false
			for _, dir := range args {
				where, err := repo.HooksPath(cmd.Context(), dir)
				if err != nil {
					return err
				}
				s, err := hooks.Check(dir, where)
				if err != nil {
					return err
				}
				bad = bad || len(s.Problems) > 0
				if asJSON {
					if err := json.NewEncoder(e.out).Encode(s); err != nil {
						return err
					}
					continue
				}
				sayHooks(e, dir, s)
			}
			if bad {
				return &exitError{exitFailed, nil}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object for each repository")
	return cmd
}

func sayHooks(e *env, dir string, s hooks.Status) {
	state := "works"
	if len(s.Problems) > 0 {
		state = "does not work"
	}
	fmt.Fprintf(e.out, "%s: %s; server %s; %d events waiting, %d refused\n", dir, state, s.Config.Server, s.Waiting, s.SetAside)
	for _, p := range s.Problems {
		fmt.Fprintf(e.out, "  %s\n", p)
	}
}

// gitDir is the repository that git runs a hook in.
func gitDir() string {
	if dir := os.Getenv("GIT_DIR"); dir != "" {
		return dir
	}
	return "."
}

func newPreReceiveCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "pre-receive",
		Short: "Refuse a push with mistakes (git runs this)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			incoming, err := repo.OpenIncoming(gitDir(), os.Getenv)
			if err != nil {
				return err
			}
			defer incoming.Close()
			hook := hooks.PreReceive{Lint: func(ctx context.Context, commit string) error {
				tree, err := incoming.Tree(ctx, commit)
				if err != nil {
					return err
				}
				_, err = checks.Load(tree)
				return err
			}}
			err = hook.Run(cmd.Context(), e.in, e.err)
			if errors.Is(err, hooks.ErrRefused) {
				return &exitError{exitFailed, nil}
			}
			return err
		},
	}
}

func newPostReceiveCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "post-receive",
		Short: "Tell the server of a push (git runs this)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir := gitDir()
			c, spool, post, err := openSpool(e, dir)
			if err != nil {
				return err
			}
			exe, err := os.Executable()
			if err != nil {
				return fmt.Errorf("cannot find this program: %w", err)
			}
			hook := hooks.PostReceive{
				Repository: c.Name, Server: c.Server, Spool: spool, Post: post,
				Start: func() error { return hooks.StartDeliverer(exe, dir) },
			}
			return hook.Run(cmd.Context(), e.in, e.out)
		},
	}
}

// openSpool is the spool of a repository and how its entries are sent. The
// secret is read when something is sent, so that an event is kept even when the
// secret cannot be read.
func openSpool(e *env, dir string) (hooks.Config, *hooks.Spool, postEntry, error) {
	c, err := hooks.Load(dir)
	if err != nil {
		return c, nil, nil, err
	}
	spool, err := hooks.NewSpool(dir, func(line string) { fmt.Fprintln(e.out, line) })
	post := func(ctx context.Context, entry hooks.Entry) error {
		secret, err := config.ReadSecret(c.SecretFile)
		if err != nil {
			return err
		}
		return postTo(c.Server, secret)(ctx, entry)
	}
	return c, spool, post, err
}

// postEntry sends one entry of a spool.
type postEntry = func(context.Context, hooks.Entry) error

// postTo sends entries to a server. Only an answer about the event itself is
// final: a wrong secret or address can be put right, and the event counts then.
func postTo(server string, secret []byte) postEntry {
	client := &http.Client{Timeout: 10 * time.Second}
	return func(ctx context.Context, entry hooks.Entry) error {
		_, err := webhook.Post(ctx, client, server, "git", entry.Event.Delivery, secret, entry.JSON)
		var refused *webhook.Refused
		if errors.As(err, &refused) && slices.Contains([]int{400, 413, 415}, refused.Status) {
			return &hooks.Refusal{Reason: refused.Error()}
		}
		if refused != nil && refused.Status == http.StatusUnauthorized {
			return fmt.Errorf("the server refuses this repository's secret: give both the same one, here with assay hook install --secret-file: %w", err)
		}
		return err
	}
}

func newDeliverCommand(e *env) *cobra.Command {
	var dir string
	var wait bool
	cmd := &cobra.Command{
		Use:   "deliver --git-dir REPOSITORY",
		Short: "Send the events that the server did not take at first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, spool, post, err := openSpool(e, dir)
			if err != nil {
				return err
			}
			if wait {
				return spool.DeliverUntilEmpty(cmd.Context(), post)
			}
			left, err := spool.Deliver(cmd.Context(), post)
			if left > 0 {
				return fmt.Errorf("cannot deliver %d events: %w", left, err)
			}
			fmt.Fprintln(e.out, "nothing is waiting")
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "git-dir", ".", "the repository")
	cmd.Flags().BoolVar(&wait, "wait", false, "try again until everything is delivered, for a day")
	return cmd
}

// sweepPeriod is how often the server looks into the spools of its host.
const sweepPeriod = time.Minute

// sweepSpools delivers what hooks on this host kept while no server ran.
func (s *server) sweepSpools(ctx context.Context) error {
	tick := time.NewTicker(sweepPeriod)
	defer tick.Stop()
	for {
		for _, dir := range spoolDirs(s.cfg) {
			s.sweep(ctx, dir)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// spoolDirs lists the check repositories on this host that have a spool.
func spoolDirs(cfg config.Config) []string {
	var dirs []string
	for _, p := range cfg.Packages {
		if !filepath.IsAbs(p.Checks) {
			continue
		}
		// The pattern is the operator's; its only special character is the *.
		found, err := filepath.Glob(filepath.Join(p.Checks, "assay", "config.yml"))
		if err != nil {
			continue
		}
		for _, file := range found {
			dirs = append(dirs, filepath.Dir(filepath.Dir(file)))
		}
	}
	return dirs
}

func (s *server) sweep(ctx context.Context, dir string) {
	spool, err := hooks.NewSpool(dir, nil)
	if err == nil {
		var secret []byte
		if len(s.secrets) > 0 {
			secret = s.secrets[0]
		}
		_, err = spool.Deliver(ctx, postTo(s.ownURL(), secret))
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn().Err(err).Str("repository", dir).Msg("cannot take the events that a hook kept")
	}
}

// ownURL is the server's address from this host, whatever others call it.
func (s *server) ownURL() string { return "http://" + s.listener.Addr().String() }
