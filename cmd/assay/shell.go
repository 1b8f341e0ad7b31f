package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/assay-ci/assay/runner/attach"
)

// door is one machine on this host, and the socket to enter it by.
type door struct{ name, execution, state, socket string }

func newVMShellCommand(e *env) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "shell [EXECUTION] [-- COMMAND [ARGUMENT...]]",
		Short: "Enter a running or kept virtual machine",
		Long: `Shell opens a terminal in a virtual machine of this host as its root, in the
directory of the check, or runs one command there and exits as that does. The
beginning of an execution's UUID or of a machine's name is enough; without one,
there must be only one machine. Who entered, when, and with what command is in
the log of whoever runs the machine.

A machine goes when its execution ends, unless it is kept: by assay run --vm
--keep, or by machines.hold in the server's configuration.

Leave a shell with exit or Ctrl-D; what it started ends with it. Arguments are
passed on as they are: for pipes and the like, run sh -c. What a machine prints
goes to your terminal as it is: in one that you do not trust, do not paste what
it made you copy.`,
		Example: `  assay vm list
  assay vm shell 0198c0de
  assay vm shell 0198c0de -- journalctl -b --no-pager
  assay vm shell 0198c0de -- tar -C /assay/artifacts -c . > artifacts.tar`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			want, command, err := splitShellArgs(cmd, args)
			if err != nil {
				return err
			}
			doors, err := libvirtDoors(cmd, e, file)
			if err != nil {
				return err
			}
			return vmShell(cmd.Context(), e, doors, want, command)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file (defaults hold without one)")
	return cmd
}

// splitShellArgs tells the machine from the command for it.
func splitShellArgs(cmd *cobra.Command, args []string) (want string, command []string, err error) {
	named := args
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		named, command = args[:dash], args[dash:]
		if len(command) == 0 {
			return "", nil, usagef(cmd, "there is no command after --")
		}
	}
	if len(named) > 1 {
		return "", nil, usagef(cmd, "cannot enter %d machines: write -- before the command: assay vm shell %s -- %s", len(named), named[0], strings.Join(named[1:], " "))
	}
	return strings.Join(named, ""), command, nil
}

// libvirtDoors lists the machines that libvirt has.
func libvirtDoors(cmd *cobra.Command, e *env, file string) ([]door, error) {
	m, err := openLibvirt(cmd, e, file)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	list, err := m.List(cmd.Context())
	if err != nil {
		return nil, err
	}
	var doors []door
	for _, vm := range list {
		// Others wait for an execution, prove something, or become templates.
		if _, err := uuid.Parse(vm.Execution); err == nil {
			doors = append(doors, door{vm.Name, vm.Execution, vm.State, filepath.Join(vm.Dir, attach.SocketName)})
		}
	}
	return doors, nil
}

// vmShell enters one of the machines.
func vmShell(ctx context.Context, e *env, doors []door, want string, command []string) error {
	d, err := findDoor(doors, want)
	if err != nil {
		return err
	}
	in, _ := e.in.(*os.File) // nothing is typed elsewhere
	exit, err := attach.Shell(ctx, d.socket, attach.Terminal{
		In: in, Out: e.out, Err: e.err, Term: os.Getenv("TERM"),
		Greeting: fmt.Sprintf("You are root in %s, the machine of execution %s.\nThat you came is recorded. Leave with exit or Ctrl-D.", d.name, d.execution),
	}, command)
	switch {
	case err != nil:
		return d.explain(err)
	case exit != 0:
		return &exitError{exit, nil}
	}
	return nil
}

// findDoor finds the one machine that the beginning of an execution's UUID or of
// a machine's name stands for; "" stands for the only one.
func findDoor(doors []door, want string) (door, error) {
	var found []door
	for _, d := range doors {
		if d.name == want {
			return d, nil
		}
		if strings.HasPrefix(d.execution, want) || strings.HasPrefix(d.name, want) {
			found = append(found, d)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(doors) == 0 && want == "":
		return door{}, errors.New("cannot enter a machine: there is none: a machine goes with its execution, unless assay run --vm --keep or machines.hold keeps it")
	case len(found) > 1 && want == "":
		return door{}, fmt.Errorf("cannot tell which machine to enter: name one of%s", listDoors(found))
	case len(found) > 1:
		return door{}, fmt.Errorf("cannot tell which machine is %q: write more of one of%s", want, listDoors(found))
	}
	why := fmt.Sprintf("cannot find a machine for %q", want)
	if _, err := uuid.Parse(want); err == nil {
		why = fmt.Sprintf("cannot enter the machine of execution %s: it has none: it is over, or has not begun, or runs on another host or as another user", want)
	}
	if len(doors) == 0 {
		return door{}, fmt.Errorf("%s: there are no machines: assay run --vm --keep or machines.hold keeps them after their execution", why)
	}
	return door{}, fmt.Errorf("%s: there are%s", why, listDoors(doors))
}

func listDoors(doors []door) string {
	var b strings.Builder
	for _, d := range doors {
		fmt.Fprintf(&b, "\n  %s  %s  (%s)", d.execution, d.name, d.state)
	}
	return b.String()
}

// explain says why a machine that is there could not be entered.
func (d door) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("cannot enter %s: it is another user's machine: enter it as the user who runs it (%w)", d.name, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("cannot enter %s: nobody lets anybody in: it is still on its way up, or going down, or of an older assay: try again in a moment (%w)", d.name, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("cannot enter %s: whoever ran it is dead: assay vm reap removes it (%w)", d.name, err)
	}
	return err
}
