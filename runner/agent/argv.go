package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// ArgvRequest is the name of the request on a session's channel that starts a
// program without a shell in between: half the work, where the machine is
// emulated. Its payload is an Argv. It is refused where the program cannot be
// started, so that "exec" can still say why in a shell's words.
const ArgvRequest = "argv@assay"

// Argv is a program with its arguments.
type Argv struct {
	Dir  string   // absolute; "" for where commands start
	Env  []string // "NAME=value", added to those of every command
	Args []string // at least the program; looked up in PATH if there is no slash in it
}

// argvMessage is an Argv on the wire. No word has a zero byte in it, so that
// ends each.
type argvMessage struct {
	Dir       string
	Env, Args string
}

// Marshal is the payload of an ArgvRequest; ok is false for what cannot be sent.
func (a Argv) Marshal() (payload []byte, ok bool) {
	for _, word := range slices.Concat([]string{a.Dir}, a.Env, a.Args) {
		if strings.IndexByte(word, 0) >= 0 {
			return nil, false
		}
	}
	return ssh.Marshal(argvMessage{a.Dir, joinWords(a.Env), joinWords(a.Args)}), len(a.Args) > 0
}

func joinWords(words []string) string {
	var b strings.Builder
	for _, word := range words {
		b.WriteString(word)
		b.WriteByte(0)
	}
	return b.String()
}

// ParseArgv reads the payload of an ArgvRequest.
func ParseArgv(payload []byte) (Argv, bool) {
	var message argvMessage
	if ssh.Unmarshal(payload, &message) != nil {
		return Argv{}, false
	}
	a := Argv{Dir: message.Dir}
	var fine [2]bool
	a.Env, fine[0] = splitWords(message.Env)
	a.Args, fine[1] = splitWords(message.Args)
	if !fine[0] || !fine[1] || len(a.Args) == 0 || a.Args[0] == "" || a.Dir != "" && !filepath.IsAbs(a.Dir) {
		return Argv{}, false
	}
	for _, pair := range a.Env {
		if name, _, ok := strings.Cut(pair, "="); !ok || !validName(name) {
			return Argv{}, false
		}
	}
	return a, strings.IndexByte(a.Dir, 0) < 0
}

func splitWords(text string) ([]string, bool) {
	if text == "" {
		return nil, true
	}
	if !strings.HasSuffix(text, "\x00") {
		return nil, false
	}
	return strings.Split(text[:len(text)-1], "\x00"), true
}

// argv starts a program.
func (s *session) argv(payload []byte) bool {
	a, ok := ParseArgv(payload)
	if !ok {
		return false
	}
	env := slices.Concat(s.server.options.Env, s.env, a.Env)
	path, ok := lookUp(a.Args[0], variable(env, "PATH"))
	if !ok {
		return false
	}
	return s.begin(order{path: path, argv: a.Args, env: a.Env, dir: a.Dir})
}

// lookUp finds a program as a shell does (execvp(3)); in the directories that
// are absolute.
func lookUp(name, path string) (string, bool) {
	if strings.Contains(name, "/") {
		return name, true // relative to where it starts; whether it is there is seen then
	}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			return "", false // which depends on where it starts: for a shell to find out
		}
		file := filepath.Join(dir, name)
		info, err := os.Stat(file)
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, true
		}
	}
	return "", false
}

// variable is the last value of a variable in an environment.
func variable(env []string, name string) string {
	value := ""
	for _, pair := range env {
		if rest, ok := strings.CutPrefix(pair, name+"="); ok {
			value = rest
		}
	}
	return value
}
