package repo

import (
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// checkName tells what is wrong with the name of a tree's entry. A name that
// passes is one component of a path on every file system, prints on one line,
// and is never git's own directory.
func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("it has no name: write the tree with git")
	case name == "." || name == "..":
		return fmt.Errorf("it is named %q, which is a place and no name: rename it", name)
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("its name %q has a slash or a zero byte in it: rename it", clip(name))
	case !utf8.ValidString(name):
		return fmt.Errorf("its name %q is not UTF-8: rename it", clip(name))
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("its name %q has a control character in it: rename it", name)
	case len(name) > maxNameLength:
		return fmt.Errorf("its name is over %d bytes long: give it a shorter one", maxNameLength)
	case isDotGit(name):
		return fmt.Errorf("its name %q is, or passes for, git's own directory .git: rename it", name)
	}
	return nil
}

// isDotGit tells whether some file system takes the name for ".git": in any
// case, with the characters that HFS+ ignores, with what NTFS drops at the end,
// as NTFS's short name, or as a stream (git's path.c and utf8.c know the same).
func isDotGit(name string) bool {
	name, _, _ = strings.Cut(name, `\`)
	name, _, _ = strings.Cut(name, ":")
	name = strings.ToLower(strings.Map(dropIgnorable, name))
	name = strings.TrimRight(name, " .")
	return name == ".git" || name == "git~1"
}

// dropIgnorable removes the code points that HFS+ leaves out when it compares
// names (git's next_hfs_char).
func dropIgnorable(r rune) rune {
	switch {
	case r >= 0x200c && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x206a && r <= 0x206f, r == 0xfeff:
		return -1
	}
	return r
}

// checkPath bounds a path in a tree: its length, and the directories above it.
func checkPath(p string, limits Limits) error {
	if len(p) > maxPathLength {
		return fmt.Errorf("cannot take %q…: its path is over %d bytes long: give it a shorter one", clip(p[:64]), maxPathLength)
	}
	if depth := strings.Count(p, "/"); depth > limits.Depth {
		return &LimitError{What: fmt.Sprintf("%q, %d directories deep", clip(p), depth), Limit: "Depth", Max: int64(limits.Depth)}
	}
	return nil
}

// checkLink tells what is wrong with the target of the symbolic link at the
// slash-separated path. A target that passes cannot leave the tree, whatever
// other links that pass lie on its way: it climbs only at its beginning, where
// the directories above it are real ones, and not beyond the root.
func checkLink(linkPath, target string) error {
	switch {
	case target == "":
		return fmt.Errorf("it has no target: point it at a file")
	case len(target) > maxLinkLength:
		return fmt.Errorf("its target is over %d bytes long: point it at a nearer file", maxLinkLength)
	case !utf8.ValidString(target) || strings.ContainsFunc(target, unicode.IsControl):
		return fmt.Errorf("its target %q has a control character in it, or is not UTF-8: rename what it points at", clip(target))
	case path.IsAbs(target):
		return fmt.Errorf("its target %q is absolute: use a relative one", target)
	}
	return checkClimb(linkPath, target)
}

func checkClimb(linkPath, target string) error {
	above, climbing := strings.Count(linkPath, "/"), true
	for part := range strings.SplitSeq(target, "/") {
		switch {
		case part == "" || part == ".":
		case part != "..":
			climbing = false
		case !climbing:
			return fmt.Errorf("its target %q has .. after a name: write it without", target)
		default:
			above--
		}
		if above < 0 {
			return fmt.Errorf("its target %q is outside: point it at a file of the same tree", target)
		}
	}
	return nil
}
