package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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

// hookInstall is what assay hook install is told.
type hookInstall struct {
	server, secretFile, name, layout, common string
	check                                    bool
}

func newHookInstallCommand(e *env) *cobra.Command {
	var o hookInstall
	cmd := &cobra.Command{
		Use:   "install REPOSITORY...",
		Short: "Install the hooks in repositories on this host",
		Long: `Install puts a pre-receive and a post-receive hook into each repository, where
its git server looks for them: git itself, Gitea, Forgejo, GitLab or gitolite. A
hook that is there already goes on working: it moves to pre-receive.d/50-existing.
docs/hooks.md tells what happens with each server.

With --check nothing is changed: it tells what is installed, whether it is as
this program would install it, and what is wrong; the exit status is 1 if
anything is.`,
		Example: `  assay hook install /srv/git/checks/hello.git --server http://127.0.0.1:8087 --secret-file webhook.secret
  assay hook install --check /srv/git/checks/*.git`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case o.check:
				return checkHooks(cmd.Context(), e, args, false)
			case o.secretFile == "":
				return usagef(cmd, "--secret-file must be given")
			case o.name != "" && len(args) > 1:
				return usagef(cmd, "--name is for one repository")
			}
			return o.run(cmd.Context(), e, args)
		},
	}
	cmd.Flags().StringVar(&o.server, "server", "http://"+config.Default().Listen, "the server's address")
	cmd.Flags().StringVar(&o.secretFile, "secret-file", "", "file with the webhook secret; whoever pushes must be able to read it (required)")
	cmd.Flags().StringVar(&o.name, "name", "", "the repository as the server's configuration names it (default: its path)")
	cmd.Flags().StringVar(&o.layout, "layout", "auto", "the git server: git, gitea (Forgejo, too), gitlab, gitolite, or auto")
	cmd.Flags().StringVar(&o.common, "hooks-dir", "", "gitolite's directory of hooks for all repositories (default: where hooks/update leads)")
	cmd.Flags().BoolVar(&o.check, "check", false, "only tell what is installed, and whether it is current")
	return cmd
}

func (o hookInstall) run(ctx context.Context, e *env, dirs []string) error {
	layout, err := hooks.ParseLayout(o.layout)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot find this program: %w", err)
	}
	secret, err := filepath.Abs(o.secretFile)
	if err != nil {
		return err
	}
	if _, err := config.ReadSecret(secret); err != nil {
		return err
	}
	for _, dir := range dirs {
		options := hooks.Options{
			GitDir: dir, Exe: exe, Server: o.server, SecretFile: secret, Name: o.name,
			Layout: layout, Common: o.common,
		}
		if options.HooksPath, err = repo.HooksPath(ctx, dir); err != nil {
			return err
		}
		if err := hooks.Install(options); err != nil {
			return err
		}
		fmt.Fprintf(e.out, "%s: hooks installed\n", dir)
	}
	return nil
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
			return checkHooks(cmd.Context(), e, args, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object for each repository")
	return cmd
}

// checkHooks tells of each repository what is installed there; something wrong
// anywhere is a failure.
func checkHooks(ctx context.Context, e *env, dirs []string, asJSON bool) error {
	bad := false
	for _, dir := range dirs {
		where, err := repo.HooksPath(ctx, dir)
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
}

func sayHooks(e *env, dir string, s hooks.Status) {
	state := "works"
	if len(s.Problems) > 0 {
		state = "does not work"
	}
	fmt.Fprintf(e.out, "%s: %s; server %s; %d events waiting, %d refused\n", dir, state, s.Config.Server, s.Waiting, s.SetAside)
	for _, name := range slices.Sorted(maps.Keys(s.Installed)) {
		age := "current"
		if !s.Current[name] {
			age = "of another version"
		}
		fmt.Fprintf(e.out, "  %s: %s, for %s\n", name, age, s.Layout)
	}
	for _, other := range s.Others {
		fmt.Fprintf(e.out, "  beside it: %s\n", other)
	}
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
				formulas, err := checks.Load(tree)
				tellWarnings(e.err, formulas)
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
