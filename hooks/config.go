package hooks

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"
)

const configVersion = 1

// Config is what the hooks of one repository know of the server; it is kept in
// <gitdir>/assay/config.yml.
type Config struct {
	Version int `yaml:"version"` // 1
	// Name is the repository for the server: what its configuration calls it.
	Name       string `yaml:"name"`
	Server     string `yaml:"server"`      // "http://localhost:8080"
	SecretFile string `yaml:"secret_file"` // absolute path of the webhook secret
	// Layout says where the hooks are; "" stands for LayoutGit.
	Layout Layout `yaml:"layout,omitempty"`
	Common string `yaml:"common,omitempty"` // of LayoutGitolite: the directory it links from, "" to find it out
}

func (c Config) layout() Layout {
	if c.Layout == "" {
		return LayoutGit
	}
	return c.Layout
}

func configPath(gitDir string) string { return filepath.Join(gitDir, "assay", "config.yml") }

// Load reads the configuration of a repository's hooks. A key it does not know,
// or a newer version, is an error.
func Load(gitDir string) (Config, error) {
	path := configPath(gitDir)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("cannot read %s: it is not there: run assay hook install", path)
	}
	if err != nil {
		return Config{}, fmt.Errorf("cannot read the hooks' configuration: %v: make it readable for whoever pushes", err)
	}
	defer f.Close()
	data, err := readBounded(f, 64<<10)
	if err != nil {
		return Config{}, fmt.Errorf("cannot read %s: %v: run assay hook install again", path, err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	var c Config
	if err := decoder.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("cannot read %s: %v: run assay hook install again", path, err)
	}
	if c.Version != configVersion {
		return Config{}, fmt.Errorf("cannot read %s: it is of version %d and this program knows %d: run assay hook install again", path, c.Version, configVersion)
	}
	if err := c.check(); err != nil {
		return Config{}, fmt.Errorf("cannot use %s: %w", path, err)
	}
	return c, nil
}

func (c Config) check() error {
	u, err := url.Parse(c.Server)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("the server %q is no address: write http:// or https:// and the host", clip(c.Server))
	}
	if c.Name == "" || len(c.Name) > 1024 || strings.HasPrefix(c.Name, "-") || strings.ContainsFunc(c.Name, unicode.IsControl) {
		return fmt.Errorf("the name %q is none: write the repository as the server's configuration does", clip(c.Name))
	}
	if _, err := ParseLayout(string(c.Layout)); err != nil {
		return err
	}
	if !filepath.IsAbs(c.SecretFile) {
		return fmt.Errorf("the secret file %q is no absolute path: write one", clip(c.SecretFile))
	}
	return nil
}

func (c Config) save(gitDir string, m modes) error {
	data, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("cannot write the hooks' configuration: %v", err)
	}
	// It holds no secret, and whoever pushes must read it.
	if err := m.writeMode(configPath(gitDir), data, 0o644); err != nil {
		return fmt.Errorf("cannot write the hooks' configuration: %v: run this as the owner of the repository", err)
	}
	return nil
}
