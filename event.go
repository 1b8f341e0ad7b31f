package assay

import (
	"strings"
	"time"
)

// EventKind says what happened.
type EventKind string

// The kinds of event.
const (
	EventPush        EventKind = "push"         // a branch moved
	EventPullRequest EventKind = "pull_request" // a pull request was opened or has new commits
	EventBuild       EventKind = "build"        // a build of a package is complete
	EventComment     EventKind = "comment"      // somebody wrote a command below a pull request
	EventRerun       EventKind = "rerun"        // somebody asked on the forge's page for a check to run again
	EventPing        EventKind = "ping"         // a forge says hello
)

// Event is something that happened elsewhere and may call for executions.
// Everything in it but ID and Received is the sender's word: use it to look
// things up, never as an address to fetch or a path to open.
type Event struct {
	ID       string // UUID; the page is /events/ID
	Source   string // the intake that took it: "github", "build", "git"
	Delivery string // the sender's id of this delivery, unique within Source
	// Meaning is equal for two events that say the same thing, even when they
	// came under different delivery ids; "" when nothing else means the same.
	Meaning  string
	Kind     EventKind
	Received time.Time

	Repo        string // the repository as the sender names it: "owner/name", a path, a URL
	Ref         string // the ref that moved, "refs/heads/main"; a pull request's base branch
	Before      string // the commit the ref was at; "" if it is new
	Commit      string // the commit that this is about
	PullRequest int    // number, for EventPullRequest
	// Trusted tells that the forge vouches for the author: who may write to the
	// repository. Only a pull request, a comment and a rerun can be untrusted.
	Trusted bool
	Author  string   // who did it, by the name that the forge gives them; "" if it does not say
	Build   *Build   // for EventBuild
	Comment *Comment // for EventComment
	Context string   // for EventRerun: the context of the status to renew, "" for all of the commit
	Origin  Origin   // how it came to us

	// Ignored says why nothing is to be done about a genuine delivery, in words
	// for the maintainer who looks it up; "" for an event that counts.
	Ignored string
}

// Origin tells how an event came to us.
type Origin string

// The origins.
const (
	OriginDelivered Origin = ""          // the sender delivered it
	OriginRecovered Origin = "recovered" // it never arrived: we asked the forge
	OriginWatched   Origin = "watched"   // there is no webhook: we look from time to time
	OriginReplayed  Origin = "replayed"  // an operator has it done once more
)

// Comment is what somebody wrote on a forge.
type Comment struct {
	ID   string // the forge's own, to answer to
	Text string // at most 64 KiB
}

// Reaction is how a comment is answered without a word.
type Reaction string

// The reactions. A forge that has no such picture uses the next best.
const (
	ReactionDone       Reaction = "done"       // a thumb up
	ReactionRefused    Reaction = "refused"    // a thumb down: who wrote it may not
	ReactionConfused   Reaction = "confused"   // it cannot be understood
	ReactionUnderstood Reaction = "understood" // eyes: it is being done
)

// PullRequest is a pull request as its forge knows it now; a merge request, too.
type PullRequest struct {
	Number     int
	Author     string // by the name that the forge gives them
	Open       bool
	Base       string // "refs/heads/main"
	BaseCommit string
	Head       string // commit
}

// Build is a completed build of a package.
type Build struct {
	ID        string   // the build system's own id
	Package   string   // "rpms/hello": the namespace is the forge's
	Version   string   // "1.0"
	Release   string   // "3.fc42"
	Arch      string   // "x86_64", "noarch"; "" for all
	Branch    string   // the branch it was built from, "" to derive it from Release
	Artifacts []string // where what was built can be downloaded, http or https
}

// Name is the package without its namespace: "hello" of "rpms/hello".
func (b Build) Name() string {
	return b.Package[strings.LastIndexByte(b.Package, '/')+1:]
}

// NVR is name-version-release, the item that a check of a build looks at
// (COMPAT.md, item type koji_build: without epoch).
func (b Build) NVR() string {
	return b.Name() + "-" + b.Version + "-" + b.Release
}
