package runner

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// withSecrets lets a command find secrets in its environment. They come in front of
// its standard input, not as variables of Command: a machine may have to write those
// on a command line, which every process of its host can read. What the step itself
// sets under such a name wins.
func withSecrets(argv []string, stdin []byte, secrets map[string]string, env []string) ([]string, io.Reader) {
	var script, values strings.Builder
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		if slices.ContainsFunc(env, func(pair string) bool { return strings.HasPrefix(pair, name+"=") }) {
			continue
		}
		// One byte at a time, so that what comes behind is left to the command. The
		// dot keeps line breaks at the end, which the shell would take away.
		fmt.Fprintf(&script, "%[1]s=$(dd bs=1 count=%[2]d 2>/dev/null && echo .) || exit 126; %[1]s=${%[1]s%%.}; export %[1]s; ",
			name, len(secrets[name]))
		values.WriteString(secrets[name])
	}
	if script.Len() == 0 {
		return argv, bytes.NewReader(stdin)
	}
	return append([]string{"/bin/sh", "-c", script.String() + `exec "$@"`, "sh"}, argv...),
		io.MultiReader(strings.NewReader(values.String()), bytes.NewReader(stdin))
}
