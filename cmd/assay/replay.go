package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/checks"
	"github.com/assay-ci/assay/dispatch"
	"github.com/assay-ci/assay/fetch"
	"github.com/assay-ci/assay/repo"
	"github.com/assay-ci/assay/runner"
)

// fromOptions are the flags of a replay.
type fromOptions struct {
	execution    string // UUID, or the address of its page
	server, data string
	checks       string
	yes          bool
}

func (o *fromOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.execution, "from", "", "replay this execution of a server: its UUID, or the address of its page")
	f.StringVar(&o.server, "server", "", "address of the server, for --from")
	f.StringVar(&o.data, "data", "", "data directory of a server on this host, for --from")
	f.StringVar(&o.checks, "checks", "", "clone of the check repository, instead of its address, for --from")
	f.BoolVarP(&o.yes, "yes", "y", false, "fetch from the execution's addresses without asking, for --from")
}

// checkReplay refuses flags that do not go with a replay, or only with one.
func (o runOptions) checkReplay(cmd *cobra.Command) error {
	given := func(names ...string) string {
		for _, name := range names {
			if cmd.Flags().Changed(name) {
				return name
			}
		}
		return ""
	}
	if o.from.execution == "" {
		if name := given("from", "server", "data", "checks", "yes"); name != "" {
			return usagef(cmd, "--%s needs --from EXECUTION", name)
		}
		return nil
	}
	if name := given("check", "item", "type", "arch", "var", "uuid"); name != "" {
		return usagef(cmd, "--%s and --from exclude each other: a replay has those of its execution", name)
	}
	if o.from.server == "" && o.from.data == "" && !strings.Contains(o.from.execution, "/executions/") {
		return usagef(cmd, "--from needs --server URL, or --data DIR of a server on this host")
	}
	if o.from.server != "" && o.from.data != "" {
		return usagef(cmd, "--server and --data exclude each other")
	}
	if info, err := os.Stat(o.from.checks); o.from.checks != "" && (err != nil || !info.IsDir()) {
		return usagef(cmd, "cannot use --checks %s: it is no directory", o.from.checks)
	}
	return nil
}

// replay runs what an execution of a server ran, and tells how the outcomes
// differ. Its error carries the exit code of the new verdict.
func replay(ctx context.Context, e *env, o runOptions) error {
	if err := o.from.locate(); err != nil {
		return err
	}
	then, err := readExecution(ctx, o.from)
	if err != nil {
		return err
	}
	if then.State != string(assay.StateFinished) {
		return fmt.Errorf("cannot replay execution %s: it has not ended: wait for it", then.ID)
	}
	need := then.needs(o)
	if err := o.from.confirm(e, need); err != nil {
		return &exitError{exitUsage, err}
	}
	dir, err := os.MkdirTemp("", "assay-replay-")
	if err != nil {
		return fmt.Errorf("cannot make a directory for the replay: %w", err)
	}
	defer os.RemoveAll(dir)
	trees, err := fetchNeeds(ctx, e, dir, need)
	if err != nil {
		return &exitError{exitErrored, err}
	}
	if trees[assay.VarNeeds], err = then.bringNeeds(ctx, e, o, dir); err != nil {
		return &exitError{exitErrored, err}
	}
	it, err := then.errand(trees[assay.VarWorkdir])
	if err != nil {
		return &exitError{exitErrored, err}
	}
	return replayOne(ctx, e, o, then, it, trees)
}

// replayOne runs it, once everything is there.
func replayOne(ctx context.Context, e *env, o runOptions, then *serverExecution, it errand, trees map[string]string) error {
	o.item, o.typ, o.arch = then.Item, then.Type, then.Arch
	if err := o.takeImage(e, then); err != nil {
		return &exitError{exitErrored, err}
	}
	s, err := openSession(ctx, e, o)
	if err != nil {
		return &exitError{exitErrored, err}
	}
	defer s.close()
	a := s.newAttempt(it)
	a.execution.Package, a.vars[assay.VarUUID] = then.Package, then.ID
	plan, err := it.formula.Plan(a.vars)
	if err != nil {
		return &exitError{exitErrored, err}
	}
	c, err := s.execute(ctx, a, plan, trees)
	if err != nil {
		return err
	}
	now := outcome{Verdict: string(c.Verdict), Exit: exitCode(c.Verdict)}
	for _, r := range c.Results {
		now.Results = append(now.Results, runResult(r))
	}
	writeDifference(e.err, then.outcome(), now)
	if code := exitCode(c.Verdict); code != exitOK {
		return &exitError{code, nil}
	}
	return nil
}

// need is one thing that a replay fetches.
type need struct {
	variable  string   // the directory that it goes into
	what      string   // for people
	address   string   // of a repository; "" for builds
	commit    string   // its commit
	sub       string   // directory of the repository that is wanted, "" for all
	ref       string   // one more that the commit may be on
	addresses []string // of builds
	trusted   bool     // the user named it: nothing to confirm
	local     bool     // it may be a path
	dir       string   // a directory that is taken as it is, instead
}

// needs lists what a replay fetches, and what the flags give instead.
func (x *serverExecution) needs(o runOptions) []need {
	ref := func(repo string) string {
		if x.Target.PullRequest > 0 && repo == x.Target.Repo {
			return dispatch.PullRef(x.Target.PullRequest)
		}
		return ""
	}
	here := o.from.data != ""
	list := []need{{
		variable: assay.VarWorkdir, what: "the check", address: x.Checks.Repo, commit: x.Checks.Commit,
		sub: strings.TrimPrefix(checks.RootOf(x.Checks.Path), "."), ref: ref(x.Checks.Repo), local: here,
	}}
	if o.from.checks != "" {
		list[0].address, list[0].trusted, list[0].local = o.from.checks, true, true
	}
	switch {
	case o.sources != "":
		list = append(list, need{variable: assay.VarSources, dir: o.sources})
	case x.Source.Repo != "":
		list = append(list, need{
			variable: assay.VarSources, what: "the package's source", address: x.Source.Repo, commit: x.Source.Commit,
			ref: ref(x.Source.Repo), local: here,
		})
	}
	switch {
	case o.builds != "":
		list = append(list, need{variable: assay.VarBuilds, dir: o.builds})
	case len(x.Builds) > 0:
		list = append(list, need{variable: assay.VarBuilds, what: "what was built", addresses: x.Builds})
	}
	return list
}

// confirm shows the addresses that a server's word would have us fetch, and asks.
func (o fromOptions) confirm(e *env, needs []need) error {
	asked := false
	for _, n := range needs {
		if n.dir != "" || n.trusted {
			continue
		}
		if n.address != "" {
			if err := plainRepository(n); err != nil {
				return err
			}
		}
		for _, address := range append([]string{n.address}, n.addresses...) {
			if address != "" {
				asked = true
				fmt.Fprintf(e.err, "%-22s %s %s\n", n.what, shown(address), shown(n.commit))
			}
		}
	}
	if !asked || o.yes {
		return nil
	}
	fmt.Fprint(e.err, "Fetch that and run it? [y/N] ")
	answer, err := bufio.NewReader(io.LimitReader(e.in, 100)).ReadString('\n')
	fmt.Fprintln(e.err)
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer == "y" || answer == "yes" {
		return nil
	}
	if err != nil && answer == "" {
		return errors.New("cannot ask whether to fetch that: nobody answers: add --yes, or give --checks DIR and --sources DIR")
	}
	return errors.New("nothing was fetched or run")
}

// plainRepository refuses an address of a server's that is no repository of the
// network: a path would name files of this host. The repo package refuses the rest.
func plainRepository(n need) error {
	if n.local {
		return nil
	}
	scheme, rest, ok := strings.Cut(n.address, "://")
	switch {
	case ok && (scheme == "https" || scheme == "http" || scheme == "ssh") && !strings.HasPrefix(rest, "-"):
		return nil
	case !ok && scpLike.MatchString(n.address):
		return nil
	}
	flag := "--checks DIR"
	if n.variable == assay.VarSources {
		flag = "--sources DIR"
	}
	return fmt.Errorf("cannot fetch %s from %q: a server may name http, https and ssh addresses only: give a clone with %s", n.what, shown(n.address), flag)
}

// fetchNeeds fills directories below dir, tells what takes long, and returns them
// by variable.
func fetchNeeds(ctx context.Context, e *env, dir string, needs []need) (map[string]string, error) {
	tell := &fetch.Teller{Say: func(line string) { fmt.Fprintln(e.err, "assay:", line) }}
	trees, err := runner.MakeDirs(filepath.Join(dir, "trees"))
	if err != nil {
		return nil, err
	}
	cache, err := repo.Open(filepath.Join(dir, "mirrors"), repo.DefaultLimits())
	if err != nil {
		return nil, err
	}
	for _, n := range needs {
		switch {
		case n.dir != "":
			trees[n.variable] = n.dir
		case n.address != "":
			var refs []string
			if n.ref != "" {
				refs = append(refs, n.ref)
			}
			if err = cache.FetchCommit(ctx, n.address, n.commit, refs...); err == nil {
				err = cache.Checkout(ctx, n.address, n.commit, n.sub, trees[n.variable])
			}
		default:
			err = newBuildClient(n.addresses, nil, dir).All(ctx, n.addresses, trees[n.variable], tell)
		}
		if err != nil {
			return nil, err
		}
	}
	return trees, nil
}

// formula reads the execution's formula in its checkout.
func (x *serverExecution) formula(work string) (*checks.Formula, error) {
	if x.Checks.Path == checks.ControlFile {
		return formulaAt(work, assay.Execution{Path: x.Checks.Path, Check: x.Check}, true)
	}
	data, err := readFormula(work, path.Base(x.Checks.Path))
	if err != nil {
		return nil, fmt.Errorf("cannot read the formula: %w", err)
	}
	return checks.Parse(x.Checks.Path, data)
}

// errand is the execution's formula, read from its checkout, in its variant.
func (x *serverExecution) errand(work string) (errand, error) {
	f, err := x.formula(work)
	if err != nil {
		return errand{}, err
	}
	it := errand{target: target{work, f}, vars: assay.Vars{assay.VarPackage: x.Package}}
	if len(f.Matrix) == 0 && x.Variant == "" {
		return it, nil
	}
	for _, v := range f.Matrix {
		if v.Name == x.Variant && (v.Arch == "" || v.Arch == x.Arch) {
			it.variant = v
			for name, value := range v.Vars {
				it.vars[name] = value
			}
			return it, nil
		}
	}
	return errand{}, fmt.Errorf("cannot find the variant %q in the matrix of %s at %s", shown(x.Variant), f.Checkname(), shown(x.Checks.Commit))
}
