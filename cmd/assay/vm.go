package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/assay-ci/assay/runner/libvirt"
)

func newVMCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vm",
		Short: "Look after the virtual machines on this host",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newVMListCommand(e), newVMReapCommand(e), newVMShellCommand(e))
	return cmd
}

// openLibvirt opens the machines of a configuration for a look; opening them
// already cleans up what dead processes left.
func openLibvirt(cmd *cobra.Command, e *env, file string) (*libvirt.Machines, error) {
	cfg, err := loadConfig(file)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	log, err := newLogger(e.err, zerolog.WarnLevel.String(), "text")
	if err != nil {
		return nil, err
	}
	options := libvirtOptions(cfg, log)
	options.Look = true
	return libvirt.Open(cmd.Context(), options)
}

func newVMListCommand(e *env) *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List assay's virtual machines, whoever runs them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := openLibvirt(cmd, e, file)
			if err != nil {
				return err
			}
			defer m.Close()
			list, err := m.List(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(e.out).Encode(list)
			}
			tw := tabwriter.NewWriter(e.out, 2, 8, 2, ' ', 0)
			fmt.Fprintln(tw, "NAME\tSTATE\tEXECUTION")
			for _, vm := range list {
				fmt.Fprintf(tw, "%s\t%s\t%s\n", vm.Name, vm.State, vm.Execution)
			}
			return tw.Flush()
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file (defaults hold without one)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func newVMReapCommand(e *env) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "reap",
		Short: "Destroy the virtual machines whose assay is dead",
		Long: `Reap destroys what a killed assay left: virtual machines, disks, sockets. Every
start of assay serve does the same. A living assay's machines, and what is not
assay's, are never touched.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := openLibvirt(cmd, e, file)
			if err != nil {
				return err
			}
			defer m.Close()
			reaped, err := m.Reap(cmd.Context())
			for _, r := range reaped {
				fmt.Fprintf(e.out, "%s %s\n", r.Kind, r.Name)
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file (defaults hold without one)")
	return cmd
}
