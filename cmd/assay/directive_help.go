package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assay-ci/assay/checks"
)

// newHelpCommand is assay help: of commands, as cobra has it, and of what is no
// command of its own, the directives of formulas.
func newHelpCommand(e *env) *cobra.Command {
	help := &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Tell about a command, or about a directive of formulas",
		Long: `Help tells about a command. assay help directive lists what an action of a
formula may do, assay help directive NAME tells all about one of them.`,
		Example:           "  assay help lint\n  assay help directive shell",
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || about == nil || len(rest) > 0 {
				return usagef(cmd, "cannot find the command %q: run assay --help for all of them", strings.Join(args, " "))
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
	help.AddCommand(newDirectiveHelpCommand(e))
	return help
}

func newDirectiveHelpCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "directive [NAME]",
		Short:   "Tell about the directives of formulas",
		Example: "  assay help directive\n  assay help directive shell",
		Args:    cobra.MaximumNArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, d := range checks.Directives() {
				names = append(names, d.Name+"\t"+d.Short)
			}
			if len(args) > 0 {
				names = nil
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				listDirectives(e)
				return nil
			}
			text, err := checks.DirectiveHelp(args[0])
			if err != nil {
				return &exitError{exitUsage, err}
			}
			_, err = fmt.Fprint(e.out, text)
			return err
		},
	}
}

func listDirectives(e *env) {
	for _, d := range checks.Directives() {
		fmt.Fprintf(e.out, "%-16s%s\n", d.Name, d.Short)
	}
	fmt.Fprintln(e.out, "\nAll about one of them: assay help directive NAME")
}
