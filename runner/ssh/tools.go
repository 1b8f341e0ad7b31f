package ssh

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/resulttool"
)

// toolsName is the directory with assay result, in the machine's own one.
const toolsName = ".tools"

// saysHost begins the line in which hostScript tells what the host is.
const saysHost = "assay is on "

const hostScript = `echo "` + saysHost + `$(uname -s) $(uname -m)"`

// linkScript makes the links in the directory $1, and tries one.
func linkScript() string {
	script := `cd "$1" && chmod 755 program || exit 1` + "\n"
	for _, name := range resulttool.Names() {
		script += "ln -s program " + name + " || exit 1\n"
	}
	return script + "./" + resulttool.OldName + " --help >/dev/null"
}

// bring installs assay result, for commands to find in their PATH. Where that
// cannot be done the machine is one without it, and spec is told why; only the
// end of ctx is an error.
func (m *machine) bring(ctx context.Context, spec runner.Spec) error {
	err := m.tryBring(ctx)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("cannot install assay result on %s: %w", m.machines.host(), ctx.Err())
	case err != nil:
		spec.Say("assay result is not there for the check: %v", err)
	default:
		m.tools = path.Join(m.dir, toolsName)
	}
	return nil
}

func (m *machine) tryBring(ctx context.Context) error {
	if m.machines.Options.Program == nil {
		return errors.New("cannot install it without its program")
	}
	exit, out, complaint, err := script(ctx, m.Machine, hostScript, m.name)
	if err != nil {
		return err
	}
	system, arch, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(out.Buffer.String()), saysHost), " ")
	if exit != 0 || !ok || system != "Linux" {
		return fmt.Errorf("cannot install it on what is no Linux (%q, %q)", clipped(out.String()), clipped(complaint.String()))
	}
	program, err := m.machines.Options.Program(arch)
	if err != nil {
		return err
	}
	tools := path.Join(m.dir, toolsName)
	if err := m.pushProgram(ctx, tools, program); err != nil {
		return err
	}
	exit, _, complaint, err = script(ctx, m.Machine, linkScript(), tools)
	if err == nil && exit != 0 {
		err = fmt.Errorf("cannot run %s there: exit %d: %s", path.Base(program), exit, complaint)
	}
	return err
}

// pushProgram copies a program of this host into a directory of the machine.
func (m *machine) pushProgram(ctx context.Context, dir, program string) error {
	f, err := os.Open(program)
	if err != nil {
		return fmt.Errorf("cannot read the program: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("cannot read the program: %w", err)
	}
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		tw := tar.NewWriter(pw)
		err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "program", Mode: 0o755, Size: info.Size()})
		if err == nil {
			_, err = io.Copy(tw, f)
		}
		pw.CloseWithError(errors.Join(err, tw.Close()))
	}()
	err = m.Push(ctx, dir, pr)
	pr.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	<-done
	return err
}
