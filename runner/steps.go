package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/assay-ci/assay"
)

// stepError is the check's own "no": a step that failed.
type stepError struct {
	step   assay.Step
	number int
	reason string
}

func (e *stepError) Error() string {
	return fmt.Sprintf("step %d %q %s", e.number, e.step.Name, e.reason)
}

// infraError is ours: it says nothing about the check.
type infraError struct{ err error }

func (e *infraError) Error() string { return e.err.Error() }
func (e *infraError) Unwrap() error { return e.err }

// crashError is the check's end together with its machine's.
type crashError struct {
	during string
	err    error
}

func (e *crashError) Error() string {
	return fmt.Sprintf("the check took its machine down during %s", e.during)
}
func (e *crashError) Unwrap() error { return e.err }

// steps runs the formula's actions until one fails.
func (r *run) steps(ctx context.Context) error {
	limit := r.limits.Time
	if r.Plan.Timeout > 0 {
		limit = r.Plan.Timeout
	}
	ctx, flood := context.WithCancelCause(ctx)
	defer flood(nil)
	r.flood = func() { flood(errFlood) }
	ctx, cancel := context.WithTimeoutCause(ctx, limit, &timeoutError{"the check", limit})
	defer cancel()
	var failed error
	for i, step := range r.Plan.Steps {
		if !runs(step.If, failed) {
			if failed == nil { // it waits for a failure
				r.log.Say(i+1, "step %d: %s (%s): skipped, no step has failed", i+1, step.Name, step.Directive)
			}
			continue
		}
		err := r.oneStep(ctx, i+1, step)
		if err != nil && (failed == nil || !goesOn(err)) {
			failed = err
		}
		if err != nil && (ctx.Err() != nil || !goesOn(err)) {
			return failed
		}
	}
	return failed
}

// runs tells whether a step is run after what happened before it.
func runs(when assay.Condition, failed error) bool {
	switch when {
	case assay.IfAlways:
		return true
	case assay.IfFailed:
		return failed != nil
	}
	return failed == nil
}

// goesOn tells whether there is a machine, and somebody who wants it, for the
// steps that run after a failure.
func goesOn(err error) bool {
	var step *stepError
	return errors.As(err, &step)
}

// timeoutError is the cause that ends what took too long.
type timeoutError struct {
	what  string
	limit time.Duration
}

func (e *timeoutError) Error() string {
	return fmt.Sprintf("timed out: %s may take %s", e.what, e.limit)
}

// oneStep runs one action within its time and words how it ended.
func (r *run) oneStep(ctx context.Context, number int, step assay.Step) error {
	r.log.Say(number, "step %d: %s (%s)", number, step.Name, step.Directive)
	if step.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, step.Timeout, &timeoutError{"the step", step.Timeout})
		defer cancel()
	}
	entry := assay.StepRun{Number: number, Name: step.Name}
	err := r.tell(ctx, entry, func(ctx context.Context) error {
		err := r.step(ctx, number, step)
		if err == nil && errors.Is(context.Cause(ctx), errFlood) {
			err = errFlood // it came to its end before it could be stopped
		}
		return err
	})
	if err != nil {
		err = r.whyStopped(ctx, number, step, err)
		r.log.Say(number, "%v", err)
	}
	return err
}

// whyStopped words the ending of a step that its machine, the clock or the log
// limit ended; other errors stay as they are.
func (r *run) whyStopped(ctx context.Context, number int, step assay.Step, err error) error {
	var infra *infraError
	var late *timeoutError
	cause := context.Cause(ctx)
	switch {
	case errors.As(err, &infra):
	case errors.Is(err, ErrMachineDied):
		err = &crashError{fmt.Sprintf("step %d %q", number, step.Name), err}
	case errors.Is(cause, errFlood):
		err = &stepError{step, number, fmt.Sprintf("printed more than %s, the log limit, and was stopped", Bytes(r.limits.Log))}
	case errors.As(cause, &late):
		reason := late.Error()
		if r.said != "" {
			reason += "; its last words: " + clip(r.said, 300)
		}
		err = &stepError{step, number, reason}
	}
	return err
}

// step resolves and does one action.
func (r *run) step(ctx context.Context, number int, step assay.Step) error {
	action, err := step.Resolve(r.vars)
	if err != nil {
		return &stepError{step, number, "cannot be run: " + err.Error()}
	}
	if action.Message != "" {
		r.log.Say(number, "%s", action.Message)
	}
	if action.Fail != "" {
		return &stepError{step, number, "failed: " + action.Fail}
	}
	if len(action.Files) > 0 {
		pack := func(w io.Writer) error { return packFiles(w, action.Files) }
		if err := r.push(ctx, r.guest(assay.VarPrivate), pack); err != nil {
			return r.ours(ctx, "cannot bring the step's files into the machine", err)
		}
	}
	if err := r.fetch(ctx, number, step, action.Fetch); err != nil {
		return err
	}
	printed, err := r.commands(ctx, number, step, action)
	if err != nil {
		return err
	}
	if err := r.turn(ctx, number, step, action.Turn); err != nil {
		return err
	}
	r.exit = max(r.exit, action.Exit)
	if step.Export != "" && action.Fetch == nil && action.Turn == nil {
		if err := r.export(ctx, number, step, action, printed); err != nil {
			return err
		}
	}
	return r.takeResults(ctx, number, step, action.Results)
}

// ours makes an error of the machinery, unless the machine died or time ran out.
func (r *run) ours(ctx context.Context, what string, err error) error {
	err = fmt.Errorf("%s: %w", what, err)
	if errors.Is(err, ErrMachineDied) || ctx.Err() != nil {
		return err
	}
	return &infraError{err}
}

// commands runs the action's commands and returns what they printed when the
// step's value is wanted.
func (r *run) commands(ctx context.Context, number int, step assay.Step, action assay.Action) ([]byte, error) {
	printed := &head{}
	if step.Export != "" {
		printed.limit = r.limits.Value
	}
	for _, c := range action.Commands {
		argv := c.Argv
		if len(argv) == 0 {
			argv = []string{"/bin/sh", "-c", c.Shell}
		}
		if step.Directive == "shell" {
			r.log.Say(number, "$ %s", clip(strings.Join(commandText(c), " "), 2000))
		}
		exit, err := r.command(ctx, number, action, argv, c.Stdin, printed)
		if err != nil {
			return nil, r.ours(ctx, "cannot run a command in the machine", err)
		}
		if exit == 0 {
			continue
		}
		if c.IgnoreExit {
			r.log.Say(number, "exit %d, ignored", exit)
			continue
		}
		return nil, &stepError{step, number, exitReason(exit, r.said)}
	}
	if printed.over && step.Export != "" && action.Value == "" {
		return nil, &stepError{step, number, fmt.Sprintf("failed: what it exports is longer than %s", Bytes(r.limits.Value))}
	}
	return printed.buf.Bytes(), nil
}

func commandText(c assay.Command) []string {
	if c.Shell != "" {
		return []string{c.Shell}
	}
	return c.Argv
}

// exitReason words a non-zero exit with the last thing the command complained of.
func exitReason(exit int, said string) string {
	reason := fmt.Sprintf("failed: exit %d", exit)
	if exit > 128 && exit < 160 {
		reason = fmt.Sprintf("failed: ended by signal %d", exit-128)
	}
	if said != "" {
		reason += ": " + clip(said, 300)
	}
	return reason
}

// command runs one command and remembers its last words: what it complained of,
// or else what it printed last, which is where test tools sum up.
func (r *run) command(ctx context.Context, number int, action assay.Action, argv []string, stdin []byte, printed io.Writer) (int, error) {
	stdout, stderr := r.log.Stream(number, StreamOut), r.log.Stream(number, StreamErr)
	var lastOut, lastErr lastLine
	shownOut, shownErr := r.mask.Writer(io.MultiWriter(stdout, &lastOut)), r.mask.Writer(io.MultiWriter(stderr, &lastErr))
	argv, input := withSecrets(inDir(action.Dir, argv), stdin, r.Secrets, action.Env)
	exit, err := r.machine.Run(ctx, Command{
		Argv:   argv,
		Dir:    r.guest(assay.VarWorkdir),
		Env:    append(r.env(), action.Env...),
		Stdin:  input,
		Stdout: io.MultiWriter(shownOut, printed),
		Stderr: shownErr,
	})
	err = errors.Join(err, shownOut.Close(), shownErr.Close())
	if r.said = lastErr.String(); r.said == "" {
		r.said = lastOut.String()
	}
	return exit, errors.Join(err, stdout.Close(), stderr.Close())
}

// inDir has a command start in another directory than the check's own. A shell goes
// there, so that one that does not exist ends the command alike in every machine.
func inDir(dir string, argv []string) []string {
	if dir == "" {
		return argv
	}
	const script = `cd -- "$1" 2>/dev/null || { echo "cannot start in $1: there is no such directory" >&2; exit 126; }; shift; exec "$@"`
	return append([]string{"/bin/sh", "-c", script, "sh", dir}, argv...)
}

// env is what every command finds in its environment. TEST_ARTIFACTS is
// Taskotron's (COMPAT.md, Minion prep).
func (r *run) env() []string {
	env := []string{
		"TEST_ARTIFACTS=" + r.guest(assay.VarArtifacts),
		"ASSAY_RESULTS=" + path.Join(r.guest(assay.VarWorkdir), "results.yml"), // where assay result writes to
	}
	for _, name := range []string{
		assay.VarItem, assay.VarType, assay.VarArch, assay.VarUUID, assay.VarPackage,
		assay.VarSources, assay.VarBuilds, assay.VarNeeds,
	} {
		if value, ok := r.vars[name].(string); ok && value != "" {
			env = append(env, "ASSAY_"+strings.ToUpper(name)+"="+value)
		}
	}
	return env
}

// export keeps the step's value under its name.
func (r *run) export(ctx context.Context, number int, step assay.Step, action assay.Action, printed []byte) error {
	if action.Value == "" {
		r.vars[step.Export] = strings.TrimSuffix(string(printed), "\n")
		return nil
	}
	data, err := r.read(ctx, action.Value)
	if err != nil {
		return r.notRead(ctx, number, step, "its value", err)
	}
	var value any
	if err := json.Unmarshal(data, &value); err != nil {
		return &stepError{step, number, fmt.Sprintf("failed: its value is not JSON: %v", err)}
	}
	r.vars[step.Export] = value
	return nil
}

// takeResults adds what a step reports to the execution's results.
func (r *run) takeResults(ctx context.Context, number int, step assay.Step, source *assay.ResultsSource) error {
	if source == nil {
		return nil
	}
	data := []byte(source.Text)
	if source.File != "" {
		file := source.File
		if !path.IsAbs(file) {
			file = path.Join(r.guest(assay.VarWorkdir), file)
		}
		var err error
		if data, err = r.read(ctx, file); err != nil {
			return r.noResults(ctx, number, step, file, err)
		}
	}
	return r.addResults(number, step, data)
}

// addResults takes what a step reports.
func (r *run) addResults(number int, step assay.Step, data []byte) error {
	results, err := r.parse(data)
	if err != nil {
		return &stepError{step, number, "reported what is no result: " + err.Error()}
	}
	for i := range results {
		r.fill(&results[i])
	}
	r.log.Say(number, "reported %s", Summary(results))
	r.results = append(r.results, results...)
	return nil
}

// fill sets what a check may leave out of a result. A checkname that begins with
// a dot is the end of one.
func (r *run) fill(res *assay.Result) {
	if res.Item == "" {
		res.Item = r.Execution.Item
	}
	if res.Type == "" {
		res.Type = r.Execution.Type
	}
	if res.Checkname == "" || strings.HasPrefix(res.Checkname, ".") {
		res.Checkname = r.Plan.Check + res.Checkname
	}
}

// errTooLong tells that a file in the machine is larger than Limits.Value.
var errTooLong = errors.New("too long")

// errNoFile tells that a file in the machine cannot be read there.
var errNoFile = errors.New("cannot be read")

// notRead words why a file of a step could not be had.
func (r *run) notRead(ctx context.Context, number int, step assay.Step, what string, err error) error {
	switch {
	case errors.Is(err, errTooLong):
		return &stepError{step, number, fmt.Sprintf("failed: %s is longer than %s", what, Bytes(r.limits.Value))}
	case errors.Is(err, errNoFile):
		return &stepError{step, number, fmt.Sprintf("failed: %s %v", what, err)}
	}
	return r.ours(ctx, "cannot read "+what, err)
}

// read returns a file of the machine, within Limits.Value. A file that never
// ends (a device, a pipe) ends at the limit or with the step's time.
func (r *run) read(ctx context.Context, file string) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out := &head{limit: r.limits.Value, full: func() { cancel(errTooLong) }}
	said := &lastLine{}
	exit, err := r.machine.Run(ctx, Command{Argv: []string{"cat", "--", file}, Stdout: out, Stderr: said})
	switch {
	case errors.Is(context.Cause(ctx), errTooLong):
		return nil, errTooLong
	case err != nil:
		return nil, err
	case exit != 0:
		return nil, fmt.Errorf("%w: %s", errNoFile, clip(said.String(), 300))
	}
	return out.buf.Bytes(), nil
}

// head keeps the first limit bytes written to it and calls full once at the
// first byte beyond. A machine's copying goroutine is its only writer.
type head struct {
	limit int64
	full  func()
	buf   bytes.Buffer
	over  bool
}

func (h *head) Write(p []byte) (int, error) {
	room := h.limit - int64(h.buf.Len())
	if int64(len(p)) <= room {
		return h.buf.Write(p)
	}
	h.buf.Write(p[:room])
	if !h.over && h.full != nil {
		h.full()
	}
	h.over = true
	return len(p), nil
}

// lastLine remembers the last line with something on it, which is where
// programs say what is wrong.
type lastLine struct {
	line, current []byte
}

func (l *lastLine) Write(p []byte) (int, error) {
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		l.take(p[:i])
		if text := bytes.TrimSpace(l.current); len(text) > 0 {
			l.line = append(l.line[:0], text...)
		}
		l.current, p = l.current[:0], p[i+1:]
	}
	l.take(p)
	return n, nil
}

// take adds to the current line, of which only the beginning matters.
func (l *lastLine) take(p []byte) {
	if room := 1000 - len(l.current); room > 0 {
		l.current = append(l.current, p[:min(room, len(p))]...)
	}
}

func (l *lastLine) String() string {
	if text := bytes.TrimSpace(l.current); len(text) > 0 {
		return printable(text)
	}
	return printable(l.line)
}

// printable keeps a guest's words harmless in one line of text.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(b), "?"))
}
