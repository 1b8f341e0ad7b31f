package proxy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestHostMirrors asks this host's own package managers.
func TestHostMirrors(t *testing.T) {
	mirrors, err := HostMirrors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range mirrors {
		if again, err := ParseRule(rule.String()); err != nil || again != rule {
			t.Errorf("%+v is no rule: %v", rule, err)
		}
	}
	archives, err := aptArchives(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range archives {
		rule, err := ParseRule(address)
		if err == nil && !slices.Contains(mirrors, rule) {
			t.Errorf("%s is missing among %v", address, mirrors)
		}
	}
	settings, err := AptSettings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range settings {
		if !strings.HasPrefix(line, "Acquire::Check-") || !strings.HasSuffix(line, `";`) {
			t.Errorf("%q is no such setting", line)
		}
	}
}

func TestDnfRepositories(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.repo"), `# a comment
[fedora]
name=Fedora: everything
baseurl=https://mirror.example.org/fedora/releases/$releasever/Everything/$basearch/os/
        http://second.example.org/fedora/
enabled=1
metalink=https://metalink.example.org/?repo=fedora-$releasever

[off]
baseurl = http://off.example.org/
enabled = 0

[several]
BaseURL: http://a.example.org/x/, http://b.example.org/y-$basearch/z
`)
	write(t, filepath.Join(dir, "b.repo"), "baseurl=http://outside.example.org/\n[x]\n nothing to continue\n[y\nbaseurl=file:///srv\n")
	write(t, filepath.Join(dir, "c.conf"), "[x]\nbaseurl=http://conf.example.org/\n")
	got, err := dnfRepositories(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"https://mirror.example.org/fedora/releases/", "http://second.example.org/fedora/",
		"http://a.example.org/x/", "http://b.example.org/", "file:///srv",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, err := dnfRepositories(filepath.Join(dir, "none")); err != nil || got != nil {
		t.Errorf("no directory: %q, %v", got, err)
	}
}

func TestPipIndices(t *testing.T) {
	dir := t.TempDir()
	home := filepath.Join(dir, "home")
	write(t, filepath.Join(home, ".pip/pip.conf"), "[global]\nindex-url = https://old.example.org/simple\nextra-index-url =\n    https://e1.example.org/simple\n    https://e2.example.org/simple\n")
	write(t, filepath.Join(home, ".config/pip/pip.conf"), "[freeze]\nindex-url = https://wrong.example.org/\n[global]\nindex-url = https://u:p@new.example.org/simple\n")
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"HOME": home}, "https://u:p@new.example.org/simple https://e1.example.org/simple https://e2.example.org/simple"},
		{map[string]string{"HOME": home, "PIP_INDEX_URL": "http://env.example.org/s", "PIP_EXTRA_INDEX_URL": "http://x.example.org/"}, "http://env.example.org/s http://x.example.org/"},
		{map[string]string{"HOME": home, "XDG_CONFIG_HOME": dir}, "https://old.example.org/simple https://e1.example.org/simple https://e2.example.org/simple"},
		{map[string]string{}, ""},
	} {
		env := func(name string) string { return c.env[name] }
		files := slices.DeleteFunc(pipFiles(env), func(file string) bool { return !strings.HasPrefix(file, dir) }) // not this host's
		got, err := pipIndices(files, env)
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%v: got %q, %v; want %q", c.env, got, err, c.want)
		}
	}
	if got := withoutUser("https://u:p@new.example.org/simple"); got != "https://new.example.org/simple" {
		t.Errorf("the host's password is in %s", got)
	}
	t.Setenv("PIP_INDEX_URL", "https://u:p@pip.example.org/simple")
	if got, err := PipIndex(); err != nil || got != "http://pip.example.org/simple" {
		t.Errorf("guests are told of %s, %v", got, err)
	}
	if mirrors, err := HostMirrors(t.Context()); err != nil || !slices.Contains(mirrors, Rule{"https", "pip.example.org", "", "/simple/"}) {
		t.Errorf("pip's index is missing in %v, %v", mirrors, err)
	}
}
