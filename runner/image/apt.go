package image

import (
	"fmt"
	"slices"
	"strings"
)

// target is one index file that this host's apt fetches, as `apt-get
// indextargets` prints it: stanzas of "Key: value" lines (apt's
// acquire-additional-files.md, "Accessing files").
type target struct {
	origin, codename, component, uri string
}

// parseTargets reads the output of `apt-get indextargets`, leaving out what is
// not a list of binary packages fetched over the network.
func parseTargets(text string) []target {
	var targets []target
	for stanza := range strings.SplitSeq(text, "\n\n") {
		fields := map[string]string{}
		for line := range strings.Lines(stanza) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			fields[key] = value
		}
		uri := fields["Repo-URI"]
		if fields["Created-By"] != "Packages" || !isPlain(uri) || !strings.HasPrefix(uri, "http") {
			continue
		}
		targets = append(targets, target{
			origin: fields["Origin"], codename: fields["Codename"],
			component: fields["Component"], uri: uri,
		})
	}
	return targets
}

// isPlain tells whether a word can stand in a line of sources.list(5) as it is.
func isPlain(word string) bool {
	return word != "" && !strings.ContainsAny(word, " \t\r\n[]\"'#")
}

// sources makes the lines of sources.list(5) that the release is installed from,
// out of what the host fetches of the same distribution: its own suites where it
// has them, else the same archives with the release's suites. Archives of any
// other origin are left out, however they are named.
func (r release) sources(targets []target, keys string) ([]string, error) {
	own := map[bool][]target{} // by whether it is the release itself
	for _, t := range targets {
		base, suffix, _ := strings.Cut(t.codename, "-")
		ours := strings.EqualFold(t.origin, r.Distro) && slices.Contains(r.components(), t.component)
		if !ours || !slices.Contains([]string{"", "updates", "security"}, suffix) {
			continue
		}
		same := base == r.Codename
		t.codename = strings.TrimSuffix(r.Codename+"-"+suffix, "-")
		own[same] = append(own[same], t)
	}
	chosen := own[true]
	if len(chosen) == 0 {
		chosen = own[false]
	}
	if !slices.ContainsFunc(chosen, func(t target) bool { return t.codename == r.Codename }) {
		return nil, fmt.Errorf("cannot find a mirror of %s in this host's apt configuration: set the mirror to use (image.mirror)", r.Distro)
	}
	return r.lines(chosen, keys), nil
}

// lines writes one line for each archive and suite.
func (r release) lines(targets []target, keys string) []string {
	var lines []string
	for _, t := range targets {
		if r.Codename == "sid" && t.codename != "sid" {
			continue // which is all that there is of it
		}
		lines = append(lines, r.line(keys, t.uri, t.codename))
	}
	return unique(lines)
}

func (r release) line(keys, uri, suite string) string {
	return fmt.Sprintf("deb [signed-by=%s] %s %s %s", keys, uri, suite, strings.Join(r.components(), " "))
}

// mirrorSources are the lines for a mirror that the operator named, which has
// the release and its updates; where security updates are apart is not known.
func (r release) mirrorSources(mirror, keys string) ([]string, error) {
	if !isPlain(mirror) || !strings.Contains(mirror, "://") {
		return nil, fmt.Errorf("cannot use %q as a mirror: it must be an address such as https://HOST/debian", mirror)
	}
	lines := []string{r.line(keys, mirror, r.Codename)}
	if r.Codename != "sid" {
		lines = append(lines, r.line(keys, mirror, r.Codename+"-updates"))
	}
	return lines, nil
}
