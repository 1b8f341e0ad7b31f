package hooks

import "strings"

// stubMark tells our hooks from others.
const stubMark = "# This is assay's hook"

// stub is the hook itself: it runs the other hooks of the name, each with the
// same input, then assay, in a shared place only for repositories that have a
// configuration. Only assay's part knows more than sh does.
func (s slot) stub(exe string) []byte {
	name, others, only := s.name, `"$0".d/*`, ""
	if s.link != "" {
		others += " " + quote(s.others) + "/*"
		only = "\n[ -f \"${GIT_DIR:-.}/assay/config.yml\" ] || exit 0"
	}
	onFailure, onMissing := `exit 1`, "cannot check this push, so it is refused"
	exit := `exit 1`
	if name == "post-receive" {
		onFailure = `echo "assay: hooks/` + name + `.d/${other##*/} failed; going on" >&2`
		onMissing = "cannot tell the server about this push"
		exit = `exit 0`
	}
	return []byte(strings.NewReplacer(
		"MARK", stubMark, "NAME", name, "EXE", quote(exe),
		"FAILURE", onFailure, "MISSING", onMissing, "EXIT", exit, "OTHERS", others, "ONLY", only,
	).Replace(stubText))
}

// The input is kept as it is by the dot behind it: sh drops line ends.
const stubText = `#!/bin/sh
MARK, written by "assay hook install". Do not edit: put
# your own into NAME.d, executable. They run first, in the order of names.
assay=EXE
input=$(cat; echo .)
input=${input%.}
for other in OTHERS; do
	if [ -f "$other" ] && [ -x "$other" ]; then
		printf %s "$input" | "$other" "$@" || FAILURE
	fi
doneONLY
if [ ! -x "$assay" ]; then
	echo "assay: MISSING: the program $assay is missing: install it again, or run assay hook install with another" >&2
	EXIT
fi
printf %s "$input" | "$assay" hook NAME
`

// quote makes a word of sh.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// unquote undoes quote.
func unquote(s string) string {
	return strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(s, "'"), "'"), `'\''`, "'")
}
