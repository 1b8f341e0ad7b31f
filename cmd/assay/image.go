package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/image"
)

func newImageCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Build, get and keep the images that machines boot from",
		Long: `An image is a disk that machines boot from; each machine works on a copy of its
own. Images of Debian and Ubuntu are built here, out of their packages, and boot
quickest. Any other comes as the distribution's own cloud image, or as a file.`,
		Example: "  assay image build debian-12\n  assay image pull fedora:42\n  assay image import disk.qcow2 --name mine",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newImageBuildCommand(e), newImagePullCommand(e), newImageImportCommand(e),
		newImageListCommand(e), newImageVerifyCommand(e), newImageRemoveCommand(e),
	)
	return cmd
}

// imageFlags are the flags that all image commands share.
type imageFlags struct{ config string }

func (f *imageFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "configuration file (defaults hold without one)")
}

func newImageBuildCommand(e *env) *cobra.Command {
	var flags imageFlags
	var o image.BuildOptions
	var size int64
	var ifNeeded bool
	cmd := &cobra.Command{
		Use:   "build [NAME]",
		Short: "Build an image from a distribution's packages",
		Long: `Build makes an image that the machines boot from, out of the packages that this
host's own apt configuration reaches. It needs neither root nor a mount. A second
build of the same name reuses the packages and takes seconds.

Images of Fedora, CentOS Stream, AlmaLinux and Rocky Linux are built by dnf, which
needs root, and a mirror where the host is of another distribution: assay image
pull is the easier way.`,
		Example: "  assay image build debian-12\n  assay image build debian-12.aarch64\n  assay image build tools --from ubuntu-24.04 --package gcc",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(flags.config)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			name := cfg.Machines.Image
			if len(args) > 0 {
				name = args[0]
			}
			if ifNeeded {
				return ensureImage(cmd.Context(), e, cfg, name)
			}
			o.Name, o.Size = name, size<<30
			return buildImage(cmd.Context(), e, cfg, o, images(cfg).Build)
		},
	}
	flags.add(cmd)
	f := cmd.Flags()
	f.StringVar(&o.Arch, "arch", "", "architecture: aarch64, … (default: the one that NAME ends in, debian-12.aarch64, else this host's)")
	f.StringVar(&o.From, "from", "", "what to build it of, when NAME does not say: debian-12, ubuntu-24.04, …")
	f.StringSliceVar(&o.Packages, "package", nil, "a package to add; may be repeated")
	f.StringVar(&o.Mirror, "mirror", "", "address of an archive (default: those of this host's apt or dnf)")
	f.StringVar(&o.Keyring, "keyring", "", "file with the keys that sign the packages (default: where distributions install it)")
	f.BoolVar(&o.Fresh, "fresh", false, "install all packages anew")
	f.Int64Var(&size, "size", 0, "size of the file system in GiB (default 4; it takes up what is in it)")
	f.BoolVar(&ifNeeded, "if-needed", false, "do nothing when there is one with this program's agent")
	return cmd
}

// ensureImage finds an image with this program's agent, or builds it.
func ensureImage(ctx context.Context, e *env, cfg config.Config, name string) error {
	return buildImage(ctx, e, cfg, image.BuildOptions{Name: name}, images(cfg).FindOrBuild)
}

// buildImage builds and shows how far it is.
func buildImage(ctx context.Context, e *env, cfg config.Config, o image.BuildOptions,
	build func(context.Context, image.BuildOptions) (image.Image, error),
) error {
	var err error
	if o.Agent, err = agentFor(cfg, o.Arch); err != nil {
		return err
	}
	begun := time.Now()
	show := newProgress(e.out)
	o.Progress = show.tell
	img, err := build(ctx, o)
	show.end()
	if err != nil {
		return err
	}
	if show.told {
		fmt.Fprintf(e.out, "image %s built in %s: %s, %s\n", img.Name, time.Since(begun).Round(time.Second), runner.Bytes(img.Size), img.Dir)
		return nil
	}
	fmt.Fprintf(e.out, "image %s is there: built %s, %s, %s\n", img.Name, img.Built.Format("2006-01-02 15:04"), runner.Bytes(img.Size), img.Dir)
	return nil
}

func newImageListCommand(e *env) *cobra.Command {
	var flags imageFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the images that there are",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := loadConfig(flags.config)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			list, err := images(cfg).List()
			if asJSON {
				return errors.Join(err, json.NewEncoder(e.out).Encode(imageRows(list)))
			}
			tw := tabwriter.NewWriter(e.out, 2, 8, 2, ' ', 0)
			fmt.Fprintln(tw, "NAME\tARCH\tBOOT\tSIZE\tBUILT\tDIGEST\tORIGIN")
			for _, i := range list {
				fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%.12s\t%s\n", i.Name, i.Arch, i.Boot, runner.Bytes(i.Size),
					i.Built.Format("2006-01-02 15:04"), i.Digest, originOf(i))
			}
			return errors.Join(err, tw.Flush())
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// originOf is what the list says of where an image came from.
func originOf(i image.Image) string {
	if i.Origin == "" {
		return "built here"
	}
	return i.Origin
}

// imageRow is one image of assay image list --json.
type imageRow struct {
	Name     string    `json:"name"`
	Distro   string    `json:"distro"`
	Release  string    `json:"release"`
	Arch     string    `json:"arch"`
	Boot     string    `json:"boot"`     // direct, bios or uefi
	Prepared bool      `json:"prepared"` // the agent is inside
	Origin   string    `json:"origin"`   // address or file; "" when it was built here
	Size     int64     `json:"size"`     // bytes on disk
	Built    time.Time `json:"built"`
	Digest   string    `json:"digest"`
	Dir      string    `json:"dir"`
}

func imageRows(list []image.Image) []imageRow {
	rows := []imageRow{}
	for _, i := range list {
		rows = append(rows, imageRow{
			Name: i.Name, Distro: i.Distro, Release: i.Release, Arch: i.Arch, Boot: i.Boot, Prepared: i.Prepared,
			Origin: i.Origin, Size: i.Size, Built: i.Built, Digest: i.Digest, Dir: i.Dir,
		})
	}
	return rows
}

func newImageRemoveCommand(e *env) *cobra.Command {
	var flags imageFlags
	cmd := &cobra.Command{
		Use:   "remove NAME...",
		Short: "Remove images",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(flags.config)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			for _, name := range args {
				err := images(cfg).Remove(cmd.Context(), name)
				if errors.Is(err, assay.ErrNotFound) {
					return fmt.Errorf("cannot remove the image %s: there is none: see assay image list", name)
				}
				if err != nil {
					return err
				}
				fmt.Fprintf(e.out, "image %s removed\n", name)
			}
			return nil
		},
	}
	flags.add(cmd)
	return cmd
}
