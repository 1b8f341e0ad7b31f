package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Secret is a value that checks of some packages may ask for, by its name. It is
// given to them for what those say who may write to the repositories, never for an
// outsider's pull request.
type Secret struct {
	Name     string   `yaml:"name"`     // of the variable that commands find it in: "TOKEN"
	File     string   `yaml:"file"`     // holds the value and nothing else
	Packages []string `yaml:"packages"` // "rpms/hello"; * stands for one path element
}

// For tells whether a package's checks may have the secret.
func (s Secret) For(pkg string) bool {
	return slices.ContainsFunc(s.Packages, func(pattern string) bool {
		ok, err := path.Match(pattern, pkg)
		return ok && err == nil
	})
}

// secretName is what the name of a variable may be, as formulas write it.
var secretName = regexp.MustCompile(`^[A-Z_][A-Z0-9_]{0,99}$`)

// reservedName are variables that other programs live by.
var reservedName = regexp.MustCompile(`^(ASSAY_.*|LD_.*|TEST_ARTIFACTS|PATH|IFS|ENV|HOME|SHELL|PWD)$`)

// validSecrets names the first secret that cannot work.
func (c *Config) validSecrets() error {
	for i, s := range c.CheckSecrets {
		field := fmt.Sprintf("secrets[%d]", i)
		switch {
		case !secretName.MatchString(s.Name):
			return fmt.Errorf("%s.name: %q is no name of a secret: write A-Z, 0-9 and _, the first no digit", field, s.Name)
		case reservedName.MatchString(s.Name):
			return fmt.Errorf("%s.name: %s has a meaning already: write another name", field, s.Name)
		case s.File == "":
			return fmt.Errorf("%s.file: is missing: write the file that holds the value of %s", field, s.Name)
		case len(s.Packages) == 0:
			return fmt.Errorf("%s.packages: is empty, so that nobody may have %s: write packages: [rpms/hello]", field, s.Name)
		}
		for _, pattern := range s.Packages {
			if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
				return fmt.Errorf("%s.packages: %q is no name of a package: write rpms/hello, or rpms/* for all of rpms", field, pattern)
			}
		}
		for _, other := range c.CheckSecrets[:i] {
			if both := sharedPackage(s, other); other.Name == s.Name && both != "" {
				return fmt.Errorf("%s: %s is there twice for %s: write each package once", field, s.Name, both)
			}
		}
	}
	return nil
}

// sharedPackage is an entry of one secret's packages that another one's have too.
func sharedPackage(a, b Secret) string {
	for _, pattern := range a.Packages {
		if slices.Contains(b.Packages, pattern) || b.For(pattern) {
			return pattern
		}
	}
	return ""
}

// resolveSecrets makes relative paths absolute.
func (c *Config) resolveSecrets(dir string) {
	for i := range c.CheckSecrets {
		if file := &c.CheckSecrets[i].File; *file != "" && !filepath.IsAbs(*file) {
			*file = filepath.Join(dir, *file)
		}
	}
}

// maxSecretFile bounds a secret's file, in bytes.
const maxSecretFile = 64 << 10

// ReadCheckSecret reads the file of a secret that checks may ask for: its value,
// without line breaks at the end. What makes a value fit for a secret is the
// runner's to say.
func ReadCheckSecret(name, file string) (string, error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("cannot read the secret %s: %w: write its value to the file", name, err)
	}
	if err != nil {
		return "", fmt.Errorf("cannot read the secret %s: %w: make it readable for the user that runs assay", name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return "", fmt.Errorf("cannot read the secret %s: %w", name, err)
	}
	if len(data) > maxSecretFile {
		return "", fmt.Errorf("cannot use the secret %s: %s is longer than %d KiB", name, file, maxSecretFile>>10)
	}
	return strings.TrimRight(string(bytes.TrimPrefix(data, []byte("\uFEFF"))), "\r\n"), nil
}
