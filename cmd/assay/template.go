package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/libvirt"
	"github.com/assay-ci/assay/runner/template"
)

func newTemplateCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "template",
		Short: "Look after the frozen machines that others are forked from",
		Long: `A template is a machine that was booted from an image, got a formula's
environment, and was frozen. It is made when the first execution asks for it, made
anew when it is old (machines.template_age), and removed when it was not used for
longest and the others need the room (machines.template_room).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTemplateListCommand(e), newTemplateRemoveCommand(e))
	return cmd
}

func templates(cfg config.Config) template.Store {
	return libvirt.TemplateStore(machinesDir(cfg), int64(cfg.Machines.TemplateRoom))
}

// machinesDir is where everything of virtual machines lies.
func machinesDir(cfg config.Config) string { return filepath.Join(cfg.Data, "machines") }

// templateRow is one template of assay template list --json.
type templateRow struct {
	Key         string             `json:"key"`
	Image       string             `json:"image"`
	CPUs        int                `json:"cpus"`
	Memory      int64              `json:"memory"` // bytes
	Environment runner.Environment `json:"environment"`
	Built       time.Time          `json:"built"`
	Seconds     float64            `json:"seconds"` // to make it
	Used        time.Time          `json:"used"`    // when a fork was last made
	Size        int64              `json:"size"`    // bytes on disk
	Dir         string             `json:"dir"`
}

func newTemplateListCommand(e *env) *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List templates, the last used first",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			list, err := templates(cfg).List()
			if err != nil {
				return err
			}
			rows := []templateRow{}
			for _, t := range list {
				rows = append(rows, templateRow{
					t.Key, t.Recipe.Image, t.Recipe.CPUs, t.Recipe.Memory, t.Recipe.Environment,
					t.Built, t.Took.Seconds(), t.Used, t.Size, t.Dir,
				})
			}
			if asJSON {
				return json.NewEncoder(e.out).Encode(rows)
			}
			tw := tabwriter.NewWriter(e.out, 2, 8, 2, ' ', 0)
			fmt.Fprintln(tw, "KEY\tIMAGE\tCPUS\tMEMORY\tENVIRONMENT\tBUILT\tUSED\tSIZE")
			for _, r := range rows {
				fmt.Fprintf(tw, "%.8s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", r.Key, r.Image, r.CPUs, runner.Bytes(r.Memory),
					environmentWord(r.Environment), ago(r.Built), ago(r.Used), runner.Bytes(r.Size))
			}
			return tw.Flush()
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file (defaults hold without one)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// environmentWord is a short name for what a template has installed.
func environmentWord(e runner.Environment) string {
	words := append(append(append([]string{}, e.Deb...), e.RPM...), e.Pip...)
	if len(e.Setup) > 0 {
		words = append(words, fmt.Sprintf("%d commands", len(e.Setup)))
	}
	if len(words) == 0 {
		return "-"
	}
	const show = 3
	text := strings.Join(words[:min(show, len(words))], ",")
	if len(words) > show {
		text += fmt.Sprintf(",+%d", len(words)-show)
	}
	return text
}

// ago is how long something is past, for people.
func ago(t time.Time) string {
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	}
	return t.Format("2006-01-02")
}

func newTemplateRemoveCommand(e *env) *cobra.Command {
	var file string
	var all bool
	cmd := &cobra.Command{
		Use:   "remove KEY...",
		Short: "Remove templates",
		Long: `Remove removes templates by the beginning of their key. Machines that were forked
from one go on; the next execution that needs it has it made anew.`,
		Example: "  assay template remove 7c1f0a3e\n  assay template remove --all",
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usagef(cmd, "give the keys of templates (see assay template list), or --all")
			}
			cfg, err := loadConfig(file)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			return removeTemplates(e, templates(cfg), args, all)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file (defaults hold without one)")
	cmd.Flags().BoolVar(&all, "all", false, "every template")
	return cmd
}

func removeTemplates(e *env, store template.Store, keys []string, all bool) error {
	if all {
		n, err := store.RemoveAll()
		fmt.Fprintf(e.out, "%d templates removed\n", n)
		return err
	}
	for _, key := range keys {
		n, err := store.Remove(key)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("cannot remove the template %s: there is none, or it is being forked this moment: see assay template list", key)
		}
		fmt.Fprintf(e.out, "template %s removed\n", key)
	}
	return nil
}
