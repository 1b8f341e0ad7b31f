package forge

import (
	"fmt"
	"strings"
)

// maxGroups is how deep GitLab lets groups stand in each other, with the
// project: 20 subgroups and the top-level group.
const maxGroups = 22

// ParseGitLab takes the address of a project on a GitLab server apart:
// "https://gitlab.com/GROUP/NAME", "ssh://git@HOST/GROUP/SUBGROUP/NAME" or
// "git@HOST:GROUP/NAME", each with or without ".git". host is in lower case,
// without a port; path is "GROUP/SUBGROUP/NAME" in GitLab's alphabet.
func ParseGitLab(address string) (host, path string, err error) {
	host, path, err = splitAddress(address)
	if err != nil {
		return "", "", err
	}
	path = strings.TrimSuffix(strings.Trim(path, "/"), ".git")
	words := strings.Split(path, "/")
	good := host != "" && len(words) >= 2 && len(words) <= maxGroups
	for _, word := range words {
		good = good && gitLabWord(word)
	}
	if !good {
		return "", "", fmt.Errorf("cannot find GROUP/NAME in the address %.100q: write it as https://HOST/GROUP/NAME", show(address))
	}
	return host, path, nil
}

// gitLabWord holds for what GitLab may call a group or a project ("Limitations
// on project and group names"): at most 255 letters, digits and _ . -, not a
// dash or a dot first.
func gitLabWord(s string) bool {
	outside := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	}
	return s != "" && len(s) <= 255 && strings.IndexFunc(s, outside) < 0 && s[0] != '-' && s[0] != '.'
}
