// Package yumrepo knows the repositories of a distribution by their Koji tags,
// from yumrepoinfo.conf: an INI file as Python's configparser reads it
// (COMPAT.md 1.1, yumrepoinfo.conf).
package yumrepo

import (
	_ "embed"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/assay-ci/assay/fetch"
	"github.com/assay-ci/assay/fetch/nvr"
)

// Builtin is the file that comes with the program. It names no server: its
// baseurl and baseurl_altarch are the operator's to set.
//
//go:embed yumrepoinfo.conf
var Builtin string

// Info is what the files say. It does not change.
type Info struct {
	names    []string // of sections, in the files' order
	sections map[string]map[string]string
	defaults map[string]string
}

// defaultSection holds what every section has unless it says otherwise.
const defaultSection = "DEFAULT"

// maxParents bounds a chain of parents.
const maxParents = 20

// Rawhide is the tag of the section rawhide; "" when there is none.
func (i *Info) Rawhide() string {
	tag, err := i.get("rawhide", "tag", nil)
	if err != nil {
		return ""
	}
	return tag
}

// Repos are the repositories of a tag and of all its parents: by section name,
// then by architecture, the address. "-pending" at the tag's end is dropped,
// since what is pending has no repository, and rawhide stands for the tag of that
// section. Of arches only those of real machines count. Its errors are
// assay.ErrFetchRefused.
func (i *Info) Repos(tag string, arches []string) (map[string]map[string]string, error) {
	tag = strings.TrimSuffix(tag, "-pending")
	if tag == "rawhide" {
		tag = i.Rawhide()
	}
	chain, err := i.chain(tag)
	if err != nil {
		return nil, err
	}
	repos := make(map[string]map[string]string)
	for _, section := range chain {
		for _, arch := range arches {
			if !nvr.IsReal(arch) {
				continue
			}
			address, err := i.address(section, nvr.Base(arch))
			if err != nil {
				return nil, err
			}
			if repos[section] == nil {
				repos[section] = make(map[string]string)
			}
			repos[section][arch] = address
		}
	}
	if len(repos) == 0 {
		return nil, fetch.Refuse("cannot find repositories for no architecture: write real ones, such as x86_64, not all, src or noarch")
	}
	return repos, nil
}

// chain lists the sections of a tag and of its parents.
func (i *Info) chain(tag string) ([]string, error) {
	var chain []string
	for tag != "" {
		section, err := i.byTag(tag)
		if err != nil {
			return nil, err
		}
		if len(chain) == maxParents || slices.Contains(chain, section) {
			return nil, fetch.Refuse("cannot follow the parents of [%.60s]: they are a circle, or more than %d", section, maxParents)
		}
		chain = append(chain, section)
		if tag, err = i.get(section, "parent", nil); err != nil {
			return nil, err
		}
	}
	if len(chain) == 0 {
		return nil, fetch.Refuse("cannot find a repository for a tag without a name")
	}
	return chain, nil
}

func (i *Info) byTag(tag string) (string, error) {
	for _, section := range i.names {
		if t, err := i.get(section, "tag", nil); err == nil && t == tag {
			return section, nil
		}
	}
	return "", fetch.Refuse("cannot find a repository for the tag %.60q: the operator names them in the file fetch.yumrepoinfo", tag)
}

// safeArch is what may stand in an address.
var safeArch = regexp.MustCompile(`^[A-Za-z0-9_]{1,20}$`)

// address is a section's url for an architecture. For the alternate ones
// baseurl_altarch stands where baseurl is written.
func (i *Info) address(section, arch string) (string, error) {
	if !safeArch.MatchString(arch) {
		return "", fetch.Refuse("cannot find repositories for the architecture %.40q", arch)
	}
	over := map[string]string{"arch": arch}
	alternate, err := i.get(section, "alternate_arches", nil)
	if err != nil {
		return "", err
	}
	if listed(alternate, arch) {
		if over["baseurl"], err = i.get(section, "baseurl_altarch", over); err != nil {
			return "", err
		}
	}
	address, err := i.get(section, "url", over)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "" || u.Host == "" {
		return "", fetch.Refuse("cannot use %.100q as the repository %s: let the operator set baseurl, and baseurl_altarch, below [DEFAULT] in the file fetch.yumrepoinfo", address, section)
	}
	return address, nil
}

func listed(list, word string) bool {
	for _, w := range strings.Split(list, ",") {
		if strings.TrimSpace(w) == word {
			return true
		}
	}
	return false
}

// Bounds of interpolation: configparser's depth, a number and a length.
const (
	maxNesting    = 10
	maxReferences = 100
	maxValue      = 8 << 10
)

// get is a section's value with its references replaced; over wins over the
// section, the section over [DEFAULT].
func (i *Info) get(section, key string, over map[string]string) (string, error) {
	x := expander{i, section, over, maxReferences}
	return x.value(key, 0)
}

// expander replaces the references of one value.
type expander struct {
	info    *Info
	section string
	over    map[string]string
	left    int // references that may still be replaced
}

// value replaces %(name)s, and %% by a single one.
func (x *expander) value(key string, depth int) (string, error) {
	if v, ok := x.over[key]; ok {
		return v, nil
	}
	text, ok := x.info.sections[x.section][key]
	if !ok {
		text, ok = x.info.defaults[key]
	}
	x.left--
	switch {
	case !ok:
		return "", x.refuse(key, "find", "write it there")
	case depth > maxNesting || x.left < 0:
		return "", x.refuse(key, "expand", "its references are nested too deep, or too many")
	}
	var b strings.Builder
	for text != "" {
		before, rest, found := strings.Cut(text, "%")
		if b.WriteString(before); !found {
			break
		}
		value, after, err := x.reference(key, rest, depth)
		if err != nil {
			return "", err
		}
		if b.WriteString(value); b.Len() > maxValue {
			return "", x.refuse(key, "expand", "it is too long")
		}
		text = after
	}
	return b.String(), nil
}

// reference reads what stands behind a percent sign.
func (x *expander) reference(key, rest string, depth int) (value, after string, err error) {
	if after, ok := strings.CutPrefix(rest, "%"); ok {
		return "%", after, nil
	}
	inner, ok := strings.CutPrefix(rest, "(")
	name, after, closed := strings.Cut(inner, ")s")
	if !ok || !closed {
		return "", "", x.refuse(key, "read", "write %(name)s for a value, and %% for a percent sign")
	}
	value, err = x.value(strings.ToLower(name), depth+1)
	return value, after, err
}

func (x *expander) refuse(key, verb, cure string) error {
	return fetch.Refuse("cannot %s %.60q in [%s] of the file fetch.yumrepoinfo: %s", verb, key, x.section, cure)
}

// Parse reads files, later ones over earlier ones, key by key. Errors begin with
// the line.
func Parse(files ...string) (*Info, error) {
	i := &Info{sections: map[string]map[string]string{}, defaults: map[string]string{}}
	for _, file := range files {
		if err := i.read(file); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// Bounds of a file.
const (
	// MaxFile is the size of the largest file that is read, in bytes.
	MaxFile     = 1 << 20
	maxSections = 2000
)

func (i *Info) read(file string) error {
	if len(file) > MaxFile {
		return fmt.Errorf("it is larger than %d KiB", MaxFile>>10)
	}
	var current map[string]string
	last := ""
	for number, line := range strings.Split(strings.TrimPrefix(file, "\uFEFF"), "\n") {
		line = strings.TrimRight(line, " \t\r")
		text := strings.TrimSpace(line)
		indented := line != text && text != ""
		switch {
		case text == "" || text[0] == '#' || text[0] == ';':
		case indented && last != "": // the value goes on
			if len(current[last])+len(text) > maxValue {
				return fmt.Errorf("line %d: the value is too long", number+1)
			}
			current[last] += "\n" + text
		case text[0] == '[':
			name, ok := strings.CutSuffix(text[1:], "]")
			if !ok || name == "" || len(name) > 100 {
				return fmt.Errorf("line %d: cannot read %.60q as a section: write [NAME]", number+1, text)
			}
			current, last = i.section(name), ""
			if len(i.names) > maxSections {
				return fmt.Errorf("line %d: more than %d sections", number+1, maxSections)
			}
		default:
			key, value, ok := cutKey(text)
			if !ok || current == nil || len(text) > maxValue {
				return fmt.Errorf("line %d: cannot read %.60q: write KEY = VALUE below a [SECTION]", number+1, text)
			}
			current[key], last = value, key
		}
	}
	return nil
}

func (i *Info) section(name string) map[string]string {
	if name == defaultSection {
		return i.defaults
	}
	if i.sections[name] == nil {
		i.sections[name] = map[string]string{}
		i.names = append(i.names, name)
	}
	return i.sections[name]
}

// cutKey splits at the first = or :, as configparser does; keys are lower case.
func cutKey(text string) (key, value string, ok bool) {
	at := strings.IndexAny(text, "=:")
	if at <= 0 {
		return "", "", false
	}
	return strings.ToLower(strings.TrimSpace(text[:at])), strings.TrimSpace(text[at+1:]), true
}
