package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/assay-ci/assay/cmd/assay/demo"
	"github.com/assay-ci/assay/config"
)

func newDemoCommand(e *env) *cobra.Command {
	var keep, local bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole product on this machine, with real parts",
		Long: `Demo makes a package with a good and a bad commit, a check repository with
assay's hooks, and a server, in a temporary directory. Then it plays the
maintainer, who pushes a check, and the build system, which reports a build of
each commit; the builds are tested in virtual machines. On a terminal it keeps
serving until Ctrl-C. Nothing is left behind but the guest image.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			exe, err := os.Executable()
			if err != nil {
				return fmt.Errorf("cannot find this program: %w", err)
			}
			o := demo.Options{
				Out: e.out, Terminal: isTerminal(e.out), Exe: exe, Keep: keep, Announcement: announcement,
				Image: func(ctx context.Context) error {
					cfg := config.Default()
					return ensureImage(ctx, e, cfg, cfg.Machines.Image)
				},
			}
			if local {
				o.Image = nil
			}
			return demo.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the directory behind, with everything in it")
	cmd.Flags().BoolVar(&local, "local", false, "run the checks on this machine instead of in virtual machines")
	return cmd
}
