package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/image"
	"github.com/assay-ci/assay/runner/libvirt"
)

func newDoctorCommand(e *env) *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Tell what this host lacks, and how to get it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			findings := diagnose(cmd.Context(), cfg)
			if asJSON {
				if err := json.NewEncoder(e.out).Encode(findings); err != nil {
					return err
				}
			} else {
				sayFindings(e, findings)
			}
			for _, f := range findings {
				if !f.OK {
					return &exitError{exitFailed, nil}
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file (defaults hold without one)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON: a list of {what, ok, found, cure}")
	return cmd
}

// finding is one thing that assay needs.
type finding struct {
	What  string `json:"what"`
	OK    bool   `json:"ok"`
	Found string `json:"found"`
	Cure  string `json:"cure,omitempty"`
}

func sayFindings(e *env, findings []finding) {
	for _, f := range findings {
		mark := "ok     "
		if !f.OK {
			mark = "missing"
		}
		fmt.Fprintf(e.out, "%s  %-16s %s\n", mark, f.What, f.Found)
		if f.Cure != "" {
			fmt.Fprintf(e.out, "         %-16s %s\n", "", f.Cure)
		}
	}
}

// doctorTime bounds the examination: proving KVM boots a small guest.
const doctorTime = time.Minute

// diagnose looks at everything in the order in which it is needed.
func diagnose(ctx context.Context, cfg config.Config) []finding {
	ctx, cancel := context.WithTimeout(ctx, doctorTime)
	defer cancel()
	findings := append([]finding{findGit(), findData(cfg), findAgent(cfg)}, findConfigured(cfg)...)
	findings = append(findings, findTools()...)
	findings = append(findings, findImage(cfg))
	if cfg.Machines.Kind == "libvirt" {
		findings = append(findings, findLibvirt(ctx, cfg)...)
	}
	return findings
}

func findGit() finding {
	path, err := exec.LookPath("git")
	if err != nil {
		return finding{What: "git", Found: "not in the PATH", Cure: "install the package git"}
	}
	return finding{What: "git", OK: true, Found: path}
}

// leastRoom is what an image and a few machines need, in bytes.
const leastRoom = 5 << 30

func findData(cfg config.Config) finding {
	f := finding{What: "data directory"}
	dir := cfg.Data
	for dir != "/" {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		f.Found, f.Cure = err.Error(), "set data in the configuration"
		return f
	}
	room := int64(fs.Bavail) * fs.Bsize
	if err := unix.Access(dir, unix.W_OK); err != nil {
		f.Found, f.Cure = fmt.Sprintf("%s: %s cannot be written: %v", cfg.Data, dir, err), "set data in the configuration to a directory of yours"
		return f
	}
	f.OK, f.Found = room >= leastRoom, fmt.Sprintf("%s, %s free", cfg.Data, runner.Bytes(room))
	if !f.OK {
		f.Cure = fmt.Sprintf("free %s there, or set data to another disk", runner.Bytes(leastRoom))
	}
	return f
}

// findConfigured looks at what the configuration names on this host.
func findConfigured(cfg config.Config) []finding {
	var findings []finding
	look := func(what, path string, err error) {
		f := finding{What: what, OK: err == nil, Found: path}
		if err != nil {
			f.Found = err.Error()
		}
		findings = append(findings, f)
	}
	for _, path := range cfg.Webhook.SecretFiles {
		_, err := config.ReadSecret(path)
		look("webhook secret", path, err)
	}
	if path := cfg.Forges.GitHub.TokenFile; path != "" {
		_, err := os.ReadFile(path)
		look("GitHub token", path, err)
	}
	for _, p := range cfg.Packages {
		for _, address := range []string{p.Checks, p.Source} {
			if filepath.IsAbs(address) && !strings.Contains(address, "*") {
				_, err := os.Stat(address)
				look("repository", address, err)
			}
		}
	}
	return findings
}

func findAgent(cfg config.Config) finding {
	path, err := agentPath(cfg)
	if err != nil {
		return finding{What: "guest agent", Found: err.Error(), Cure: "make build"}
	}
	return finding{What: "guest agent", OK: true, Found: path}
}

func findTools() []finding {
	var findings []finding
	for _, t := range image.Missing() {
		findings = append(findings, finding{
			What: t.Program, Found: "not in the PATH",
			Cure: fmt.Sprintf("install the package %s (Debian, Ubuntu) or %s (Fedora)", t.Debian, t.Fedora),
		})
	}
	if len(findings) == 0 {
		findings = append(findings, finding{What: "image tools", OK: true, Found: "all there"})
	}
	return findings
}

func findImage(cfg config.Config) finding {
	f := finding{What: "guest image"}
	img, err := images(cfg).Find(cfg.Machines.Image)
	if err != nil {
		f.Found, f.Cure = err.Error(), "assay image build "+cfg.Machines.Image
		return f
	}
	f.OK, f.Found = true, fmt.Sprintf("%s, built %s, %s", img.Name, img.Built.Format("2006-01-02"), runner.Bytes(img.Size))
	return f
}

func findLibvirt(ctx context.Context, cfg config.Config) []finding {
	m, err := libvirt.Open(ctx, libvirtOptions(cfg, zerolog.Nop()))
	if err != nil {
		return []finding{{What: "libvirt", Found: err.Error(), Cure: "scripts/setup.sh installs what is missing"}}
	}
	defer m.Close()
	info, err := m.Describe(ctx)
	if err != nil {
		return []finding{{What: "libvirt", Found: err.Error()}}
	}
	accel := finding{What: "acceleration", OK: true, Found: info.Accel + ": " + info.Why}
	if info.Accel == "qemu" {
		accel.Cure = "machines are emulated, about ten times slower: load the kvm module, or enable (nested) virtualisation"
	}
	return []finding{
		{What: "libvirt", OK: true, Found: fmt.Sprintf("%s at %s, QEMU %s running as %s", info.Libvirt, info.URI, info.QEMU, info.User)},
		accel, findConfinement(info.Confinement),
	}
}

// findConfinement tells what stands between a guest that breaks out into QEMU
// and this host. What is missing is no reason not to run.
func findConfinement(c libvirt.Confinement) finding {
	have := []string{"QEMU runs as " + c.User, "control groups " + c.Cgroups}
	for name, on := range map[string]bool{"sandbox (seccomp)": c.Sandbox, "/dev of its own": c.Namespaces} {
		if on {
			have = append(have, name)
		}
	}
	for _, model := range c.Models {
		if model != "dac" && model != "none" {
			have = append(have, model)
		}
	}
	slices.Sort(have[1:])
	return finding{What: "confinement", OK: true, Found: strings.Join(have, ", "), Cure: strings.Join(c.Holes(), "; ")}
}
