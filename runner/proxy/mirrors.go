package proxy

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// HostMirrors lists what this host's own package managers are configured to
// fetch from: apt's archives (apt-get indextargets), dnf's baseurl lines
// (yum.conf(5); a metalink names mirrors that only it knows, and is left out)
// and pip's indices. Where a host has none of these the list is empty. Addresses
// that are not http or https are left out.
func HostMirrors(ctx context.Context) ([]Rule, error) {
	archives, err := aptArchives(ctx)
	if err != nil {
		return nil, err
	}
	repositories, err := dnfRepositories("/etc/yum.repos.d")
	if err != nil {
		return nil, err
	}
	indices, err := pipIndices(pipFiles(os.Getenv), os.Getenv)
	if err != nil {
		return nil, err
	}
	var rules []Rule
	for _, address := range slices.Concat(archives, repositories, indices) {
		// What cannot be a rule (file:, variables in the host's name) is none of ours.
		if rule, err := ParseRule(withoutUser(address)); err == nil && !slices.Contains(rules, rule) {
			rules = append(rules, rule)
		}
	}
	return rules, nil
}

// PipIndex is the address of the index that this host's pip is configured to
// use, as guests ask the proxy for it; "" if none is.
func PipIndex() (string, error) {
	indices, err := pipIndices(pipFiles(os.Getenv), os.Getenv)
	if err != nil || len(indices) == 0 {
		return "", err
	}
	u, err := url.Parse(withoutUser(indices[0]))
	if err != nil || u.Host == "" {
		return "", nil
	}
	return guestURL(u).String(), nil
}

// withoutUser drops the user and password of an address: they are the host's.
func withoutUser(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.User == nil {
		return address
	}
	u.User = nil
	return u.String()
}

// aptArchives asks apt, if there is one.
func aptArchives(ctx context.Context) ([]string, error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return nil, nil
	}
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)").Output()
	if err != nil {
		return nil, fmt.Errorf("cannot read this host's apt configuration: %w", err)
	}
	return slices.Compact(slices.Sorted(slices.Values(strings.Fields(string(out))))), nil
}

// AptSettings lists what this host's apt is told about the age of its archives,
// as lines of apt.conf(5): a guest that uses the same archives needs the same.
func AptSettings(ctx context.Context) ([]string, error) {
	if _, err := exec.LookPath("apt-config"); err != nil {
		return nil, nil
	}
	names := []string{"Acquire::Check-Valid-Until", "Acquire::Check-Date"}
	out, err := exec.CommandContext(ctx, "apt-config", append([]string{"dump"}, names...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("cannot read this host's apt configuration: %w", err)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if name, _, ok := strings.Cut(line, " "); ok && slices.Contains(names, name) && strings.HasSuffix(line, ";") {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// dnfRepositories reads baseurl of enabled repositories, up to the first
// variable: guests may be of another release.
func dnfRepositories(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.repo"))
	if err != nil {
		return nil, err
	}
	var addresses []string
	for _, file := range files {
		sections, err := readINI(file)
		if err != nil {
			return nil, err
		}
		for _, s := range sections {
			if s.values["enabled"] == "0" {
				continue
			}
			for _, address := range strings.FieldsFunc(s.values["baseurl"], func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }) {
				addresses = append(addresses, beforeVariable(address))
			}
		}
	}
	return addresses, nil
}

// beforeVariable cuts an address at the directory whose name has a variable.
func beforeVariable(address string) string {
	before, _, found := strings.Cut(address, "$")
	if !found {
		return address
	}
	return before[:strings.LastIndexByte(before, '/')+1]
}

// pipFiles lists pip's configuration files, the one that counts most last (pip's
// user guide, Configuration).
func pipFiles(env func(string) string) []string {
	home, config := env("HOME"), env("XDG_CONFIG_HOME")
	if config == "" {
		config = filepath.Join(home, ".config")
	}
	files := []string{"/etc/pip.conf"}
	if home != "" {
		files = append(files, filepath.Join(home, ".pip/pip.conf"), filepath.Join(config, "pip/pip.conf"))
	}
	if file := env("PIP_CONFIG_FILE"); file != "" {
		files = append(files, file)
	}
	return files
}

// pipIndices lists the index first and then extra ones.
func pipIndices(files []string, env func(string) string) ([]string, error) {
	index, extra := "", ""
	for _, file := range files {
		sections, err := readINI(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, s := range sections {
			if s.name == "global" || s.name == "install" {
				index, extra = cmp.Or(s.values["index-url"], index), cmp.Or(s.values["extra-index-url"], extra)
			}
		}
	}
	index, extra = cmp.Or(env("PIP_INDEX_URL"), index), cmp.Or(env("PIP_EXTRA_INDEX_URL"), extra)
	return strings.Fields(index + "\n" + extra), nil
}

// section is one [NAME] of an INI file.
type section struct {
	name   string
	values map[string]string // continuation lines joined with a line end
}

// readINI reads a file as Python's configparser does, without interpolation.
func readINI(path string) ([]section, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read this host's package configuration: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	var sections []section
	key := ""
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Text()
		text := strings.TrimSpace(line)
		switch {
		case text == "" || text[0] == '#' || text[0] == ';':
		case text[0] == '[':
			sections, key = append(sections, section{strings.Trim(text, "[]"), map[string]string{}}), ""
		case len(sections) == 0:
		case line[0] == ' ' || line[0] == '\t':
			if key != "" {
				sections[len(sections)-1].values[key] += "\n" + text
			}
		default:
			at := strings.IndexAny(text, "=:")
			if at < 0 {
				continue
			}
			key = strings.ToLower(strings.TrimSpace(text[:at]))
			sections[len(sections)-1].values[key] = strings.TrimSpace(text[at+1:])
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("cannot read this host's package configuration %s: %w", path, err)
	}
	return sections, nil
}
