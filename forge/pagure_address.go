package forge

import (
	"fmt"
	"strings"
)

// pagureRepo is a project in Pagure's terms.
type pagureRepo struct {
	fork      string // the account whose fork it is, "" for none
	namespace string // "" for none
	name      string
}

// ParsePagure takes the address of a project on a Pagure server apart:
// "https://HOST/NAMESPACE/NAME", "https://HOST/NAME", either below fork/USER/
// (as the pages have it) or forks/USER/ (as git's addresses have it), with ssh,
// too, and with or without ".git". host is in lower case, without a port; path
// is what the API has: "[fork/USER/][NAMESPACE/]NAME", in Pagure's alphabet.
func ParsePagure(address string) (host, path string, err error) {
	host, path, err = splitAddress(address)
	if err != nil {
		return "", "", err
	}
	words := strings.Split(strings.TrimSuffix(strings.Trim(path, "/"), ".git"), "/")
	repo, ok := pagureWords(words)
	if host == "" || !ok {
		return "", "", fmt.Errorf("cannot find NAMESPACE/NAME in the address %.100q: write it as https://HOST/NAMESPACE/NAME or https://HOST/NAME", show(address))
	}
	return host, repo.path(), nil
}

func pagureWords(words []string) (repo pagureRepo, ok bool) {
	if len(words) > 2 && (words[0] == "fork" || words[0] == "forks") {
		repo.fork, words = words[1], words[2:]
		if !pagureWord(repo.fork) {
			return repo, false
		}
	}
	if len(words) == 2 {
		repo.namespace, words = words[0], words[1:]
		if !pagureWord(repo.namespace) {
			return repo, false
		}
	}
	if len(words) != 1 || !pagureWord(words[0]) {
		return repo, false
	}
	repo.name = words[0]
	return repo, true
}

func (r pagureRepo) path() string {
	path := r.name
	if r.namespace != "" {
		path = r.namespace + "/" + path
	}
	if r.fork != "" {
		path = "fork/" + r.fork + "/" + path
	}
	return path
}

// pagureWord holds for what Pagure may call a project, a namespace, a group or
// an account: at most 255 letters, digits and _ - . +, a letter, a digit or _
// first ("c++-gtk-utils" is a package).
func pagureWord(s string) bool {
	outside := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-+", r))
	}
	return s != "" && len(s) <= 255 && strings.IndexFunc(s, outside) < 0 && !strings.ContainsRune(".-+", rune(s[0]))
}
