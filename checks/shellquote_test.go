package checks

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// hostile are values that would do something if a shell read them.
func hostile() []string {
	return []string{
		"$(>canary)", "`>canary`", ";>canary;", "';>canary;'", `";>canary;"`, "\n>canary\n", `\`,
		`'"'"';>canary #`, "a)>canary;(", "x}>canary;{", "END\n>canary\n", "$((", "\"$(>canary)\"", "'$(>canary)'",
		"&>canary&", "|>canary", "\\\n>canary", ">canary", "'\\'';>canary;'\\''", "~", "*", "a b",
	}
}

// expandShell makes a command of text and gives item a value.
func expandShell(text, item string) (string, error) {
	p := &parser{known: map[string]bool{"item": true}, formula: &Formula{uses: map[string]bool{}}}
	t := p.shellTemplate(&yaml.Node{Kind: yaml.ScalarNode, Value: text, Line: 1, Column: 1})
	if err := p.mistakes.err(); err != nil {
		return "", err
	}
	return t.text(&scope{vars: assay.Vars{"item": item}, left: maxResolved})
}

func runShell(t *testing.T, script string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", script)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nowhere"}
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(cmd.Dir, "canary")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a value became a command (%v): %q", err, script)
	}
	return string(out)
}

// A real shell must read the very value wherever a reference may stand.
func TestShellReadsTheValue(t *testing.T) {
	places := []string{
		`printf %s ${item}`,
		`printf %s "$item"`,
		`printf %s '${item}'`,
		`v=${item}; printf %s "$$v"`,
		`V="${item}"; printf %s "$V"`,
		`printf %s "$(printf %sx ${item})" | sed '$ s/x$//'`,
		`printf %s "$(printf %sx "${item}")" | sed '$ s/x$//'`,
		"# don't ${item}\nprintf %s ${item}",
		"true \\\n# don't ${item}\nprintf %s ${item}",
		`: "$$$$(" $#; printf %s "${item}"`,
		`: $${HOME} "$${HOME%/*}" \' \"; printf %s ${item}`,
		`case x in x) printf %s ${item};; esac`,
		`(printf %s ${item})`,
		`if true; then printf %s "${item}"; fi # it's`,
	}
	for _, place := range places {
		for _, value := range hostile() {
			if strings.HasSuffix(value, "\n") && strings.Contains(place, "$(") {
				continue // sed adds the line end that $(…) would have dropped
			}
			script, err := expandShell(place, value)
			if err != nil {
				t.Errorf("%q with %q: %v", place, value, err)
			} else if got := runShell(t, script); strings.TrimSuffix(got, "\n") != strings.TrimSuffix(value, "\n") {
				t.Errorf("%q with %q: the shell reads %q", place, value, got)
			}
		}
	}
}

// Where the place of a reference cannot be told, a value that a shell would
// read as more than a word is refused.
func TestShellRefusesWhereUnsure(t *testing.T) {
	for _, place := range []string{
		"cat <<END\n${item}\nEND", "echo `echo ${item}`", "echo $((${item}))", "echo $[${item}]", `echo \${item}`, `echo "\${item}"`,
		"echo $${x:-${item}}", `echo "$${x%'}" ${item}`, "echo $'${item}'", "echo $$${item}", "echo $(case x in x) echo ${item};; esac)",
		"(echo)#' ${item}", "echo $\\\n(${item})",
	} {
		for _, value := range hostile() {
			if isShellSafe(value) {
				continue
			}
			if script, err := expandShell(place, value); err == nil {
				t.Errorf("%q with %q: not refused: %q", place, value, script)
			}
		}
		if _, err := expandShell(place, "plain-1.0"); err != nil {
			t.Errorf("%q refuses a plain value: %v", place, err)
		}
	}
}

// Whatever text stands around it, sensible or not, a value must not become a
// command.
func TestShellNeverRunsTheValue(t *testing.T) {
	pieces := []string{
		"echo ", "${item}", "${item}", "'", `"`, "`", "\\", "$(", ")", "(", "#", " ", "\n", "<<E\n", "<", ";", "|", "&", "$$", "$$$$", "$#",
		"$", "{", "}", "$${x", "%", "case x in x)", ";;", "esac", "x", "=", "$((", "))", "if ", "then ", "[", "]", "!", "$'", "$\"", "~", "*",
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		var b strings.Builder
		for range 2 + rng.IntN(14) {
			b.WriteString(pieces[rng.IntN(len(pieces))])
		}
		script, err := expandShell(b.String(), hostile()[rng.IntN(len(hostile()))])
		if err == nil {
			runShell(t, script)
		}
	}
}

func TestQuoteForComment(t *testing.T) {
	if got, ok := quoteFor("a b\n$(c)\x00é~", quoteComment); !ok || got != "a_b___c____" {
		t.Errorf("quoteFor = %q, %v", got, ok)
	}
	for q := quoteBare; q <= quoteUnsure; q++ {
		if got, ok := quoteFor("plain_1.0~rc-2", q); !ok || got != "plain_1.0~rc-2" {
			t.Errorf("quoting %d changes a plain value: %q, %v", q, got, ok)
		}
	}
	if fmt.Sprint(isShellSafe("a:~b"), isShellSafe("a=~b"), isShellSafe("~b"), isShellSafe("a~b")) != "false false false true" {
		t.Error("a ~ where a shell would put a home directory must not pass")
	}
}
