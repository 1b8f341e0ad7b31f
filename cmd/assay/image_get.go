package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/image"
)

func newImagePullCommand(e *env) *cobra.Command {
	var flags imageFlags
	var o image.PullOptions
	var list, asJSON bool
	cmd := &cobra.Command{
		Use:   "pull DISTRO:RELEASE | ADDRESS",
		Short: "Download a distribution's cloud image",
		Long: `Pull downloads a cloud image, checks it against the checksum that is published
with it, and keeps it under a name. The image stays as its makers made it: the
machine gets the agent through a seed when it boots for the first time.

A download that was cut off goes on where it was: run the same command again.
An image that is there already and has not changed is left alone.

DISTRO:RELEASE is an entry of the catalogue, which --list shows. An ADDRESS needs
the checksum beside it: --sha256, or --sums with the address of the file it is in.`,
		Example: `  assay image pull fedora:42
  assay image pull debian:12 --name debian-12-cloud --arch aarch64
  assay image pull fedora:42 --mirror https://mirror.example.org/fedora/linux
  assay image pull https://example.org/disk.qcow2 --sums https://example.org/SHA256SUMS`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if list {
				return listCatalogue(e, asJSON)
			}
			if len(args) == 0 {
				return usagef(cmd, "say what to pull, such as fedora:42: --list shows what there is")
			}
			if o.Ref = args[0]; strings.Contains(args[0], "://") {
				o.Ref, o.URL = "", args[0]
			}
			return get(e, flags, func(s image.Store, tell func(image.Progress)) (image.Image, error) {
				o.Progress = tell
				return s.Pull(cmd.Context(), o)
			})
		},
	}
	flags.add(cmd)
	f := cmd.Flags()
	f.StringVar(&o.SHA256, "sha256", "", "the file's SHA-256, in hexadecimal")
	f.StringVar(&o.Sums, "sums", "", "address of a file with the checksum (SHA256SUMS, SHA512SUMS, CHECKSUM)")
	f.StringVar(&o.Mirror, "mirror", "", "where the distribution's files begin on a mirror (default: its own server)")
	f.BoolVar(&list, "list", false, "show the catalogue")
	f.BoolVar(&asJSON, "json", false, "with --list: as JSON")
	addWhat(cmd, &o.Name, &o.Boot, &o.Distro, &o.Release, &o.Arch, &o.Replace)
	return cmd
}

// addWhat adds the flags that say what an image from elsewhere is.
func addWhat(cmd *cobra.Command, name, boot, distro, release, arch *string, replace *bool) {
	f := cmd.Flags()
	f.StringVar(name, "name", "", "the image's name (default: DISTRO-RELEASE, or after the file)")
	f.StringVar(boot, "boot", "", "how it boots: bios or uefi (default: what the disk looks like)")
	f.StringVar(distro, "distro", "", "which distribution it is of, when its name does not say")
	f.StringVar(release, "release", "", "which release of it")
	f.StringVar(arch, "arch", "", "its architecture (default: this host's)")
	f.BoolVar(replace, "replace", false, "also in the place of an image that was built here")
}

func newImageImportCommand(e *env) *cobra.Command {
	var flags imageFlags
	var o image.ImportOptions
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Make an image of a disk that is in a file",
		Long: `Import copies a disk, raw or qcow2, also compressed with xz, and keeps it under a
name. What it is shows in the file, not in its name. It needs cloud-init or
Ignition inside, and systemd: that is how the agent comes in.`,
		Example: "  assay image import fedora-42.qcow2\n  assay image import disk.raw --name mine --distro fedora --release 42 --boot uefi",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.File = args[0]; o.Name == "" {
				o.Name = image.NameOf(o.File, o.Distro, o.Release, o.Arch)
			}
			return get(e, flags, func(s image.Store, tell func(image.Progress)) (image.Image, error) {
				o.Progress = tell
				return s.Import(cmd.Context(), o)
			})
		},
	}
	flags.add(cmd)
	addWhat(cmd, &o.Name, &o.Boot, &o.Distro, &o.Release, &o.Arch, &o.Replace)
	return cmd
}

// get brings an image in and shows how far it is.
func get(e *env, flags imageFlags, bring func(image.Store, func(image.Progress)) (image.Image, error)) error {
	cfg, err := loadConfig(flags.config)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	begun := time.Now()
	show := newProgress(e.out)
	img, err := bring(images(cfg), show.tell)
	show.end()
	if err != nil {
		return err
	}
	if img.Built.Before(begun) {
		fmt.Fprintf(e.out, "image %s is there, and is what is published: %s\n", img.Name, img.Dir)
		return nil
	}
	fmt.Fprintf(e.out, "image %s is ready after %s: %s, boots by %s, %s\n",
		img.Name, time.Since(begun).Round(time.Second), runner.Bytes(img.Size), img.Boot, img.Dir)
	return nil
}

// catalogueRow is one entry of assay image pull --list --json.
type catalogueRow struct {
	Image  string `json:"image"` // "fedora:42"
	Distro string `json:"distro"`
	// Release may be any other number where the distribution numbers them on.
	Release string `json:"release"`
	Arch    string `json:"arch"`
	URL     string `json:"url"`
	Sums    string `json:"sums"`
}

func listCatalogue(e *env, asJSON bool) error {
	rows := []catalogueRow{}
	for _, c := range image.Catalogue() {
		rows = append(rows, catalogueRow{c.Ref(), c.Distro, c.Release, c.Arch, c.URL, c.Sums})
	}
	if asJSON {
		return json.NewEncoder(e.out).Encode(rows)
	}
	tw := tabwriter.NewWriter(e.out, 2, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "IMAGE\tARCH\tADDRESS")
	for _, r := range rows {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", r.Image, r.Arch, r.URL)
	}
	return tw.Flush()
}

// verifyRow is one image of assay image verify --json.
type verifyRow struct {
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Problem string `json:"problem,omitempty"`
}

func newImageVerifyCommand(e *env) *cobra.Command {
	var flags imageFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [NAME...]",
		Short: "Compare images with what they were when they were put here",
		Long: `Verify reads all of the images, or those that are named, computes their checksums
anew, and says which files are not what they were. Exit 1 when one is not.`,
		Example: "  assay image verify\n  assay image verify debian-12 --json",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, names []string) error {
			cfg, err := loadConfig(flags.config)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			rows, err := verifyImages(cmd, e, images(cfg), names, asJSON)
			if asJSON {
				err = errors.Join(err, json.NewEncoder(e.out).Encode(rows))
			}
			for _, r := range rows {
				if err == nil && !r.OK {
					err = &exitError{exitFailed, nil} // each has been said
				}
			}
			return err
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// verifyImages verifies the named images, or all, one after the other.
func verifyImages(cmd *cobra.Command, e *env, store image.Store, names []string, quiet bool) ([]verifyRow, error) {
	rows := []verifyRow{}
	if len(names) == 0 {
		all, err := store.Names()
		if err != nil {
			return rows, err
		}
		names = all
	}
	show := newProgress(e.err)
	for _, name := range names {
		var tell func(image.Progress)
		if !quiet && show.tty {
			tell = show.tell
		}
		err := store.Verify(cmd.Context(), name, tell)
		show.end()
		row := verifyRow{Name: name, OK: err == nil}
		switch {
		case cmd.Context().Err() != nil:
			return rows, cmd.Context().Err()
		case errors.Is(err, assay.ErrNotFound):
			return rows, err
		case err != nil:
			row.Problem = err.Error()
			fmt.Fprintf(e.err, "assay: %v\n", err)
		case !quiet:
			fmt.Fprintf(e.out, "image %s is what it was\n", name)
		}
		rows = append(rows, row)
	}
	return rows, nil
}
