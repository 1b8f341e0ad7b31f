// Package demo shows the whole product on one machine: it plays the maintainer
// and the build system of a small package, against the real program. All it does
// are commands that a user could type.
package demo

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

// files is what the demo's maintainer writes: a package in two versions, a
// check with a mistake and the check without it.
//
//go:embed files
var files embed.FS

// Options says how the show goes.
type Options struct {
	Out      io.Writer
	Terminal bool   // a person reads along: go on serving until ctx ends
	Exe      string // this program
	Keep     bool   // leave the directory behind
	// Image makes sure that there is a guest image; nil runs the checks on this
	// machine instead of in virtual ones.
	Image func(context.Context) error
	// Announcement is the name of the file, in the server's data directory, that
	// tells where it is.
	Announcement string
}

// demo is one show on its way.
type demo struct {
	o      Options
	dir    string // everything lies below it
	server *child
	url    string // of the server
	rows   []*row
}

// row is one line of the table at the end.
type row struct {
	what, repo, commit string
	want               string // the status it must end with
	status, page       string
	commented          bool // the one comment is there
	duration           time.Duration
}

// Run plays the scenes in order and cleans up whatever happens. It returns nil
// when ctx ends, and an error when a scene did not go as it must.
func Run(ctx context.Context, o Options) (err error) {
	d := &demo{o: o}
	if d.dir, err = os.MkdirTemp("", "assay-demo-"); err != nil {
		return fmt.Errorf("cannot make a directory: %w", err)
	}
	defer func() { err = d.end(ctx, err) }()
	// The virtual machines' user must be able to reach what lies below.
	if err := os.Chmod(d.dir, 0o711); err != nil {
		return err
	}
	scenes := []func(context.Context) error{
		d.image, d.makePackage, d.startServer, d.makeCheckRepository,
		d.pushMistake, d.pushCheck, d.makeBug, d.reportBuilds, d.show,
	}
	for _, scene := range scenes {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return d.linger(ctx)
}

// end stops the server and removes the directory. After a failure the
// directory stays, since it holds the reason.
func (d *demo) end(ctx context.Context, err error) error {
	err = errors.Join(err, d.server.stop(context.WithoutCancel(ctx)))
	interrupted := ctx.Err() != nil
	if d.o.Keep || err != nil && !interrupted {
		fmt.Fprintf(d.o.Out, "\nEverything is in %s (the server's log: server.log).\n", d.dir)
		return err
	}
	if rerr := os.RemoveAll(d.dir); rerr != nil {
		return errors.Join(err, fmt.Errorf("cannot remove the demo's directory: %w", rerr))
	}
	if interrupted {
		fmt.Fprintln(d.o.Out, "\nStopped. Nothing is left behind but the guest image.")
		return nil
	}
	return err
}

func (d *demo) path(elem ...string) string { return filepath.Join(append([]string{d.dir}, elem...)...) }

func (d *demo) title(format string, args ...any) {
	fmt.Fprintf(d.o.Out, "\n== "+format+"\n", args...)
}

// image builds the guest image unless there is one.
func (d *demo) image(ctx context.Context) error {
	if d.o.Image == nil {
		return nil
	}
	d.title("A guest image")
	return d.o.Image(ctx)
}

// makePackage makes rpms/hello with a good commit.
func (d *demo) makePackage(ctx context.Context) error {
	d.title("A package, rpms/hello, in its version 1.0")
	if err := d.quietly(ctx, d.initRepository("rpms/hello", d.path("work", "hello"))...); err != nil {
		return err
	}
	return d.release(ctx, "1.0")
}

// release commits a version of the package.
func (d *demo) release(ctx context.Context, version string) error {
	work := d.path("work", "hello")
	if err := d.write("hello-"+version, work); err != nil {
		return err
	}
	if err := d.quietly(ctx, d.commitAll(work, "hello "+version)...); err != nil {
		return err
	}
	return d.shown(ctx, work, "git", "log", "--format=%h %s")
}

// makeBug is version 1.1: it learns to say goodbye, and forgets names.
func (d *demo) makeBug(ctx context.Context) error {
	d.title("The package's version 1.1 brings a bug")
	if err := d.release(ctx, "1.1"); err != nil {
		return err
	}
	return d.shown(ctx, d.path("work", "hello"), "git", "diff", "--unified=0", "HEAD~1")
}

// makeCheckRepository makes checks/hello and installs the hooks.
func (d *demo) makeCheckRepository(ctx context.Context) error {
	d.title("A check repository, checks/hello, with assay's hooks")
	if err := d.quietly(ctx, d.initRepository("checks/hello", d.path("work", "checks"))...); err != nil {
		return err
	}
	return d.shown(ctx, d.dir, "assay", "hook", "install", "checks/hello.git",
		"--server", d.url, "--secret-file", "webhook.secret")
}

// pushMistake is a maintainer's first try.
func (d *demo) pushMistake(ctx context.Context) error {
	d.title("The maintainer pushes a check with mistakes")
	work := d.path("work", "checks")
	for _, set := range []string{"check", "check-mistaken"} { // the mistakes on top
		if err := d.write(set, work); err != nil {
			return err
		}
	}
	if err := d.shown(ctx, work, "cat", formula); err != nil {
		return err
	}
	if err := d.quietly(ctx, d.commitAll(work, "greeting: check what hello says")...); err != nil {
		return err
	}
	err := d.shown(ctx, work, "git", "push", "origin", "main")
	var exit *commandError
	if !errors.As(err, &exit) {
		return errors.Join(errors.New("the push with mistakes was not refused"), err)
	}
	return nil
}

// formula is the path of the demo's formula in its repository.
const formula = "checks/greeting/runtask.yml"

// pushCheck is the second try; the trial run's status lands on the commit.
func (d *demo) pushCheck(ctx context.Context) error {
	d.title("The maintainer mends it and pushes again")
	work := d.path("work", "checks")
	if err := d.write("check", work); err != nil {
		return err
	}
	if err := d.shown(ctx, work, "git", "diff", "--unified=0", "--", formula); err != nil {
		return err
	}
	if err := d.shown(ctx, work, "git", "commit", "-q", "--all", "--amend", "--no-edit"); err != nil {
		return err
	}
	if err := d.shown(ctx, work, "git", "push", "origin", "main"); err != nil {
		return err
	}
	if err := d.expect(ctx, "trial", "checks/hello", "HEAD", "success"); err != nil {
		return err
	}
	return d.await(ctx)
}

// reportBuilds is the build system: one signed event for each commit.
func (d *demo) reportBuilds(ctx context.Context) error {
	d.title("The build system reports a build of each commit")
	for _, b := range []struct{ version, rev, want string }{{"1.0", "HEAD~1", "success"}, {"1.1", "HEAD", "failure"}} {
		commit, err := d.output(ctx, d.path("rpms", "hello.git"), "git", "rev-parse", b.rev)
		if err != nil {
			return err
		}
		if err := d.shown(ctx, d.dir, "assay", "event", "send", "--server", d.url, "--secret-file", "webhook.secret",
			"--package", "rpms/hello", "--version", b.version, "--release", "1.fc42", "--commit", commit); err != nil {
			return err
		}
		if err := d.expect(ctx, "hello-"+b.version+"-1.fc42", "rpms/hello", commit, b.want); err != nil {
			return err
		}
	}
	return d.await(ctx)
}

// show prints what reviewers see and the table.
func (d *demo) show(ctx context.Context) error {
	d.title("What reviewers see on the commits")
	if err := d.shown(ctx, d.path("rpms", "hello.git"), "git", "log", "--notes=assay", "--format=%C(auto)%h %s%n%n%N"); err != nil {
		return err
	}
	d.title("All of it")
	tw := tabwriter.NewWriter(d.o.Out, 2, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "BUILD\tCOMMIT\tSTATUS\tDURATION\tPAGE")
	var wrong []string
	for _, r := range d.rows {
		fmt.Fprintf(tw, "%s\t%.10s\t%s\t%s\t%s\n", r.what, r.commit, r.status, r.duration.Round(time.Second), r.page)
		if r.status != r.want {
			wrong = append(wrong, fmt.Sprintf("%s ended with %s instead of %s", r.what, r.status, r.want))
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if len(wrong) > 0 {
		return errors.New("the demo went wrong: " + strings.Join(wrong, "; "))
	}
	return nil
}

// linger keeps serving for a person who wants to look around.
func (d *demo) linger(ctx context.Context) error {
	if !d.o.Terminal {
		fmt.Fprint(d.o.Out, "\nThat was all: run the demo on a terminal, and it goes on serving for you to look at the pages.\n")
		return nil
	}
	fmt.Fprintf(d.o.Out, "\nOpen %s in a browser. On another machine first: ssh -L PORT:HOST:PORT, with the address's.\nCtrl-C ends the demo.\n", d.url)
	select {
	case <-ctx.Done():
		return nil
	case <-d.server.ended:
		return fmt.Errorf("the server ended by itself: see %s", d.path("server.log"))
	}
}

// write copies one set of the demo's files into a directory.
func (d *demo) write(set, dir string) error {
	src, err := fs.Sub(files, "files/"+set)
	if err != nil {
		return err
	}
	return fs.WalkDir(src, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		if entry.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		data, err := fs.ReadFile(src, name)
		if err != nil {
			return err
		}
		return os.WriteFile(to, data, 0o755)
	})
}
