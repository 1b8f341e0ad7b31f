package proxy

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// archive makes an archive for apt with one real package, and serves it.
func archive(t *testing.T) *mirror {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "root/DEBIAN/control"), "Package: hello\nVersion: 1:1.0+b~1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: says hello\n")
	write(t, filepath.Join(dir, "root/usr/share/hello"), "hello\n")
	name := "pool/hello_1.0+b~1_all.deb"
	if err := os.MkdirAll(filepath.Join(dir, "debian/pool"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("dpkg-deb", "-b", filepath.Join(dir, "root"), filepath.Join(dir, "debian", name)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	deb, err := os.ReadFile(filepath.Join(dir, "debian", name))
	if err != nil {
		t.Fatal(err)
	}
	packages := fmt.Sprintf("Package: hello\nVersion: 1:1.0+b~1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nFilename: %s\nSize: %d\nSHA256: %x\nDescription: says hello\n",
		name, len(deb), sha256.Sum256(deb))
	sum := sha256.Sum256([]byte(packages))
	write(t, filepath.Join(dir, "debian/dists/x/main/binary-all/Packages"), packages)
	write(t, filepath.Join(dir, fmt.Sprintf("debian/dists/x/main/binary-all/by-hash/SHA256/%x", sum)), packages)
	write(t, filepath.Join(dir, "debian/dists/x/Release"), fmt.Sprintf(
		"Origin: test\nSuite: x\nCodename: x\nAcquire-By-Hash: yes\nDate: Sat, 01 Jan 2022 00:00:00 UTC\nArchitectures: all\nComponents: main\nSHA256:\n %x %d main/binary-all/Packages\n", sum, len(packages)))
	return newMirror(t, http.FileServer(http.Dir(dir)).ServeHTTP)
}

// apt runs apt-get with a configuration and a state of its own.
func apt(t *testing.T, g *guest, source string, args ...string) (dir, output string, err error) {
	t.Helper()
	dir = t.TempDir()
	for _, sub := range []string{"lists/partial", "cache/archives/partial", "parts", "down"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "status"), "")
	write(t, filepath.Join(dir, "sources.list"), "deb [trusted=yes] "+source+" x main\n")
	write(t, filepath.Join(dir, "conf"), fmt.Sprintf(`Dir::Etc::sourcelist "%[1]s/sources.list"; Dir::Etc::sourceparts "%[1]s/parts"; Dir::Etc::parts "%[1]s/parts";
Dir::Etc::main "/dev/null"; Dir::State "%[1]s"; Dir::State::status "%[1]s/status"; Dir::Cache "%[1]s/cache"; Dir::Log "%[1]s";
Acquire::http::Proxy "http://%[2]s"; APT::Architecture "all"; APT::Architectures { "all"; }; APT::Sandbox::User ""; Debug::NoLocking "1";
Acquire::Languages "none"; Acquire::Check-Date "false"; Acquire::Retries "0"; APT::Update::Error-Mode "any";
`, dir, g.address))
	for _, command := range [][]string{{"update"}, args} {
		cmd := exec.CommandContext(t.Context(), "apt-get", command...)
		cmd.Dir = filepath.Join(dir, "down")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "APT_CONFIG=" + filepath.Join(dir, "conf"), "LC_ALL=C.UTF-8"}
		out, err := cmd.CombinedOutput()
		output += string(out)
		if err != nil {
			return dir, output, err
		}
	}
	return dir, output, nil
}

// TestApt has real apt-get fetch a package twice, each time on a new machine.
func TestApt(t *testing.T) {
	m := archive(t)
	g := start(t, Options{Allow: rules(t, m.URL+"/debian/"), Cache: t.TempDir()})
	asked := map[string]int{}
	for machine := range 2 {
		before := len(m.requests())
		dir, output, err := apt(t, g, m.URL+"/debian", "download", "hello")
		if err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		if _, err := os.Stat(filepath.Join(dir, "down/hello_1%3a1.0+b~1_all.deb")); err != nil {
			t.Errorf("%v\n%s", err, output)
		}
		for _, r := range m.requests()[before:] {
			asked[fmt.Sprint(machine, filepath.Ext(r.URL.Path))]++
			if isImmutable(r.URL.Path) && machine > 0 {
				t.Errorf("the mirror was asked for %s again", r.URL.Path)
			}
		}
	}
	if asked["0.deb"] != 1 || asked["1.deb"] != 0 {
		t.Errorf("the mirror was asked for %v", asked)
	}
}

// TestAptIsRefused by a proxy that does not allow the archive.
func TestAptIsRefused(t *testing.T) {
	m := archive(t)
	g := start(t, Options{Allow: rules(t, m.URL+"/ubuntu/")})
	_, output, err := apt(t, g, m.URL+"/debian", "download", "hello")
	if err == nil || !strings.Contains(output, "403") {
		t.Errorf("%v\n%s", err, output)
	}
	if e := <-g.entries; !e.Refused() || !strings.Contains(e.Reason, "/debian/dists/x/InRelease") {
		t.Errorf("the log is told %+v", e)
	}
}
