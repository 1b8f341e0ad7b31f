package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/assay-ci/assay/config"
)

func newServeCommand(e *env) *cobra.Command {
	var file, data, listen string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server: intake, queue, machines, pages",
		Long: `Serve takes events, runs the checks that want them, and reports. Database,
queue and pages are built in; nothing needs to be set up but which packages are
checked and the secret that events are signed with:

  # assay.yml
  webhook: {secret_files: [webhook.secret]}
  packages:
    - name: rpms/hello
      checks: /srv/git/checks/hello.git
      source: /srv/git/rpms/hello.git

Every setting is explained in config/example.yml. Ctrl-C ends the server; what
it was at is taken up again at the next start, also after kill -9.`,
		Example: "  assay serve --config assay.yml",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), e, file, data, listen) },
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file (defaults hold without one)")
	cmd.Flags().StringVar(&data, "data", "", "directory of everything the server keeps")
	cmd.Flags().StringVar(&listen, "listen", "", "host:port to listen on")
	return cmd
}

// serve runs a server until ctx ends; data and listen beat the configuration.
func serve(ctx context.Context, e *env, file, data, listen string) error {
	cfg, err := loadConfig(file)
	if err == nil && data != "" {
		cfg.Data, err = filepath.Abs(data)
	}
	if listen != "" {
		cfg.Listen = listen
	}
	if err == nil {
		err = errors.Join(cfg.Validate(), packagesOf(cfg).Validate())
	}
	if err != nil {
		return &exitError{exitUsage, err}
	}
	log, err := newLogger(e.err, cfg.Log.Level, cfg.Log.Format)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if len(cfg.Packages) == 0 {
		log.Warn().Msg("nothing will be checked: packages is empty in the configuration")
	}
	warnImage(cfg, log)
	s, err := newServer(ctx, cfg, log, openMachines)
	if err != nil {
		return err
	}
	err = errors.Join(s.Run(ctx), s.Close())
	log.Info().Msg("ended")
	return err
}

// loadConfig reads a configuration file, or takes the defaults.
func loadConfig(file string) (config.Config, error) {
	if file == "" {
		return config.Default(), nil
	}
	return config.Load(file)
}
