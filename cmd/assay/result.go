package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/assay-ci/assay/runner/resulttool"
)

// newResultCommand is the command that checks report with. It reads its arguments
// itself, since the agent does so without this program's parser.
func newResultCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:                "result -o OUTCOME",
		Short:              "Report one result, from within a check",
		Long:               resulttool.Usage,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if code := resulttool.Run(args, os.Getenv, e.out, e.err); code != exitOK {
				return &exitError{code, nil}
			}
			return nil
		},
	}
	cmd.SetUsageTemplate("")
	cmd.SetHelpTemplate("{{.Long}}")
	return cmd
}

// arguments are the program's, by its whole argument list: called by the old name
// of assay result it is that command.
func arguments(args []string) []string {
	if len(args) > 0 && filepath.Base(args[0]) == resulttool.OldName {
		return append([]string{"result"}, args[1:]...)
	}
	return args[min(len(args), 1):]
}
