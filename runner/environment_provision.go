package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// ProvisionOptions say how an environment is installed.
type ProvisionOptions struct {
	// Proxy is the HTTP proxy as the machine reaches it, "127.0.0.1:3128"; "" for
	// a machine with a network of its own. Programs are told of it only as long
	// as the installation lasts.
	Proxy string
	// PipIndex is the address of pip's index as the machine asks the proxy for
	// it, http://; "" for pip's own.
	PipIndex string
	// AptSettings are further lines of apt.conf(5) for the installation.
	AptSettings []string
	// Timeout is for everything together; 0 for 30 minutes.
	Timeout time.Duration
	// Tell is told, in a line each, what begins and what is left out; may be nil.
	Tell func(line string)
	// Output gets what the commands print; may be nil.
	Output io.Writer
}

// ProvisionError tells why an environment could not be installed. Either it is
// the formula's Mistake: the next attempt would end the same, and the execution
// fails with this error as its reason. Or nobody can tell: the proxy, a mirror or
// the machine gave out, and the execution is tried again.
//
// Whose fault it is, is read from what the package managers print, because they
// exit alike for both: apt-get with 100, dnf and pip with 1. Any sign of trouble
// on the way to a mirror, a refusal of the proxy's included, makes it nobody's,
// and so does anything unknown. The formula's are: packages, versions or
// dependencies that do not exist, packages that do not install or build, a full
// disk, and every end but a good one of its own set-up commands, that of the time
// for them included; but not the exit status 75 (EX_TEMPFAIL of sysexits.h), with
// which a set-up command says that it is worth another attempt.
type ProvisionError struct {
	Step    string // what was being done: "apt-get install hello"
	Exit    int    // its exit status, -1 when it has none
	Output  string // the end of what it printed: printable lines, at most 4 KiB
	Mistake bool   // it is the formula's
	Err     error  // why it has no exit status; may wrap ErrMachineDied or ctx's error

	reason string // the line of output that says most; "" for none
}

// Error is one line, with the line of output that says most.
func (e *ProvisionError) Error() string {
	text := "cannot install the environment: " + e.Step
	if e.Err != nil {
		return text + ": " + clip(printable([]byte(e.Err.Error())), 500)
	}
	text += fmt.Sprintf(" exited with %d", e.Exit)
	if e.reason != "" {
		text += ": " + e.reason
	}
	return text
}

func (e *ProvisionError) Unwrap() error { return e.Err }

// tellingLine is the line that says most: the first that begins as complaints do
// and has one of the signs in it, else that has a sign, else that complains, else
// the last.
func tellingLine(output string, signs []string) string {
	var ranked [4]string
	for line := range strings.Lines(output) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		rank, complains := 3, complains(line)
		// What apt says of an archive whose signature it was not given is true, and
		// leads astray.
		switch sign := containsAny(line, signs) && !strings.Contains(line, "is not signed"); {
		case sign && complains:
			rank = 0
		case sign:
			rank = 1
		case complains:
			rank = 2
		}
		if ranked[rank] == "" || rank == 3 {
			ranked[rank] = line
		}
	}
	return clip(cmp.Or(ranked[:]...), 300)
}

// complains tells lines that begin as errors of package managers do.
func complains(line string) bool {
	return slices.ContainsFunc([]string{"E: ", "ERROR: ", "Error: ", "error: ", "Problem: "}, func(mark string) bool {
		return strings.HasPrefix(line, mark)
	})
}

// commander is a Machine, as far as an installation needs it.
type commander interface {
	Run(ctx context.Context, cmd Command) (exit int, err error)
}

var errProvisionTime = errors.New("it took longer than an environment may")

// Provision installs an environment in a machine, as root. An error is a
// *ProvisionError; the machine is of no use then. Afterwards nothing in the
// machine mentions the proxy any more.
func Provision(ctx context.Context, m commander, e Environment, o ProvisionOptions) error {
	if e.Empty() {
		return nil
	}
	if err := e.check(); err != nil {
		return &ProvisionError{Step: "the formula", Exit: -1, Mistake: true, Err: err}
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Minute
	}
	if o.Tell == nil {
		o.Tell = func(string) {}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, errProvisionTime)
	defer cancel()
	return (&provision{machine: m, options: o}).install(ctx, e)
}

// provision is one installation under way.
type provision struct {
	machine commander
	options ProvisionOptions
}

func (p *provision) install(ctx context.Context, e Environment) error {
	said, err := p.run(ctx, envStep{name: "look at the machine", script: detectScript})
	if err != nil {
		return err
	}
	f := parseFamily(said)
	if f == familyNone && len(e.RPM)+len(e.Deb) > 0 {
		return &ProvisionError{Step: "look at the machine", Exit: -1, Mistake: true,
			Err: errors.New("its image has neither apt-get nor dnf: name another image, or install with setup")}
	}
	steps, notes := planEnvironment(e, f, p.options)
	for _, note := range notes {
		p.options.Tell(note)
	}
	for _, step := range steps {
		p.options.Tell("environment: " + step.name)
		if _, err := p.run(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

// run does one step and judges how it ended. It returns what the step printed,
// the end of it when that is long.
func (p *provision) run(ctx context.Context, step envStep) (string, error) {
	said := &outputTail{next: p.options.Output}
	if step.kind == kindOurs {
		said.next = nil // it tells nobody anything but us
	}
	cmd := step.command()
	cmd.Stdout, cmd.Stderr = said, said
	exit, err := p.machine.Run(ctx, cmd)
	output := said.text()
	if err != nil {
		late := errors.Is(context.Cause(ctx), errProvisionTime)
		// A command of the formula's own may have taken the machine down.
		died := errors.Is(err, ErrMachineDied) && !errors.Is(err, ErrMachineLost)
		if late {
			err = fmt.Errorf("%w (%s)", errProvisionTime, p.options.Timeout)
		}
		return "", &ProvisionError{
			Step: step.name, Exit: -1, Output: lastOf(output, maxSaid), Err: err,
			Mistake: (late || died) && step.kind == kindSetup,
		}
	}
	if exit != 0 || step.kind == kindApt && strings.Contains(output, aptUnreached) {
		return "", step.failure(exit, output)
	}
	return output, nil
}

// failure is the error for a step that failed.
func (s envStep) failure(exit int, output string) *ProvisionError {
	e := &ProvisionError{Step: s.name, Exit: exit, Mistake: s.kind.isMistake(output), Output: lastOf(output, maxSaid)}
	if s.kind == kindSetup && exit == exitTempFail {
		e.Mistake = false
	}
	trouble, mistakes := s.kind.signs()
	if e.Mistake {
		trouble = mistakes
	}
	e.reason = tellingLine(output, trouble)
	return e
}

// exitTempFail is EX_TEMPFAIL of sysexits.h: "try again later".
const exitTempFail = 75

// aptUnreached is what an apt-get says that goes on with old or missing indices.
const aptUnreached = "Some index files failed to download"

// isMistake tells from what a failed step printed whether it is the formula's.
func (k envKind) isMistake(output string) bool {
	trouble, mistakes := k.signs()
	full := []string{"No space left on device", "enough free space", "more space needed"}
	switch {
	case k == kindOurs:
		return false
	case k == kindSetup || containsAny(output, full):
		return true
	}
	return !containsAny(output, trouble) && containsAny(output, mistakes)
}

// signs lists what package managers print when they cannot reach a mirror, and
// when what they are asked for cannot be installed.
func (k envKind) signs() (trouble, mistakes []string) {
	switch k {
	case kindApt:
		return []string{
				"Failed to fetch", "Unable to fetch", "Could not connect", "Connection failed", "Temporary failure",
				"Could not resolve", "Unable to connect", "Connection timed out", "Hash Sum mismatch", aptUnreached,
				"Err:", "is not signed", "Could not get lock", "Release file",
			}, []string{
				"Unable to locate package", "Couldn't find any package", "has no installation candidate",
				"was not found", "unmet dependencies", "held broken packages", "Sub-process /usr/bin/dpkg returned an error",
				"is a virtual package", "Couldn't find task",
			}
	case kindDnf:
		return []string{
				"Failed to download", "Cannot download", "Curl error", "Errors during downloading", "Error downloading",
				"All mirrors were tried", "Status code:", "Cannot prepare internal mirrorlist", "Could not resolve",
				"GPG check FAILED", "Downloading successful, but checksum",
			}, []string{
				"No match for argument", "Unable to find a match", "nothing provides", "conflicting requests",
				"No package", "Problem:", "Transaction failed", "Transaction test error", "Running transaction test failed",
				"is not a valid",
			}
	case kindPip:
		return []string{
				"Retrying (Retry(", "NewConnectionError", "ProxyError", "ConnectTimeoutError", "ReadTimeoutError",
				"Connection refused", "Connection aborted", "ConnectionResetError", "ProtocolError", "IncompleteRead",
				"Tunnel connection failed", "SSLError", "HTTP error", "Client Error", "Server Error", "HASHES",
			}, []string{
				"Could not find a version that satisfies", "No matching distribution", "ResolutionImpossible",
				"Invalid requirement", "subprocess-exited-with-error", "Failed building wheel", "Requires-Python",
				"conflicting dependencies", "metadata-generation-failed", "No module named pip",
				"python3: not found",
			}
	}
	return nil, nil
}

func containsAny(text string, signs []string) bool {
	for _, sign := range signs {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// How much of a step's output is judged and is kept, in bytes.
const (
	maxJudged = 64 << 10
	maxSaid   = 4 << 10
)

// outputTail keeps the end of what a command prints, on both streams.
type outputTail struct {
	next io.Writer // may be nil

	mu  sync.Mutex
	buf []byte
}

func (t *outputTail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - maxJudged; over > maxJudged {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	if t.next == nil {
		return len(p), nil
	}
	return t.next.Write(p)
}

// text is the kept end, as printable lines.
func (t *outputTail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for line := range strings.Lines(string(t.buf[max(0, len(t.buf)-maxJudged):])) {
		b.WriteString(printable([]byte(strings.TrimRight(line, "\r\n"))))
		b.WriteByte('\n')
	}
	return b.String()
}

// lastOf is the end of a text, beginning with a whole line.
func lastOf(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	text = text[len(text)-limit:]
	return text[strings.IndexByte(text, '\n')+1:]
}
