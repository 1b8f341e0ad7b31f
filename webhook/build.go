package webhook

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/assay-ci/assay"
)

// maxArtifacts is how many addresses one build event may name.
const maxArtifacts = 1000

// Build is the Source of the generic build event; the package comment documents
// its format.
type Build struct{ ownHeaders }

// NewBuild returns the source that takes build events signed with one of keys.
func NewBuild(keys Keys) *Build { return &Build{newOwnHeaders(keys)} }

var _ Source = (*Build)(nil)

// Decode returns one event of kind build. Its Repo is the repository that the
// sender named or "", its Ref is "": a build moves no branch.
func (s *Build) Decode(header http.Header, body []byte) ([]assay.Event, error) {
	delivery, err := s.delivery(header)
	if err != nil {
		return nil, err
	}
	e, err := readBuild(body)
	if err != nil {
		return nil, fmt.Errorf("cannot read the build event: %v", err)
	}
	e.Delivery = delivery
	return []assay.Event{e}, nil
}

// readBuild reads the generic build event, which comes alone or in a CloudEvent.
func readBuild(body []byte) (assay.Event, error) {
	e := assay.Event{Kind: assay.EventBuild, Trusted: true, Build: &assay.Build{}}
	if err := readObject(body, buildFields(&e)); err != nil {
		return assay.Event{}, err
	}
	b := e.Build
	e.Meaning = meaning(e.Kind, b.ID, b.Package, b.Version, b.Release, b.Arch, b.Branch, e.Repo, e.Commit)
	return e, nil
}

func buildFields(e *assay.Event) []field {
	b := e.Build
	return []field{
		{name: "package", set: text(&b.Package, validPackage, "NAMESPACE/NAME or NAME")},
		{name: "version", set: text(&b.Version, validVersion, "a version such as 1.0 or 1.0~rc1")},
		{name: "release", set: text(&b.Release, validRelease, "a release such as 1.fc42")},
		{name: "arch", optional: true, set: text(&b.Arch, validArch, "an architecture such as x86_64")},
		{name: "commit", set: text(&e.Commit, validCommit, wantCommit)},
		{name: "build_id", set: text(&b.ID, validID, wantID)},
		{name: "repository", optional: true, set: text(&e.Repo, validRepoURL, "the address of a git repository without a password in it")},
		{name: "branch", optional: true, set: text(&b.Branch, validBranch, "a short branch name such as f42")},
		{name: "artifacts", optional: true, set: texts(&b.Artifacts, maxArtifacts, validDownload, "an http or https address without a user name in it")},
	}
}

const wantCommit = "40 or 64 lower-case hex digits and not all zero"

func validCommit(s string) bool { return validHash(s) && !zeroHash(s) }

func validPackage(s string) bool {
	namespace, name, found := strings.Cut(s, "/")
	if !found {
		return validName(s)
	}
	return validName(namespace) && validName(name)
}

// The alphabets are the union of what RPM (rpm-spec, "Preamble") and Debian
// (Policy 5.6.1 and 5.6.12) allow, as far as it is safe in a path and a shell.
func validName(s string) bool    { return madeOf(s, alnum+"_", nameRest, maxName) }
func validVersion(s string) bool { return madeOf(s, alnum, alnum+"._+~^:-", maxName) }
func validRelease(s string) bool { return madeOf(s, alnum, alnum+"._+~^", maxName) }
func validArch(s string) bool    { return madeOf(s, alnum, alnum+"_-", 32) }

// validBranch wants a short branch name: "f42", not "refs/heads/f42".
func validBranch(s string) bool {
	return !strings.HasPrefix(s, "refs/") && !strings.HasPrefix(s, "-") && validRef("refs/heads/"+s)
}

func validDownload(s string) bool {
	u, ok := address(s, "http", "https")
	return ok && u.User == nil && u.Hostname() != ""
}

func validRepoURL(s string) bool {
	u, ok := address(s, "http", "https", "ssh", "git", "file")
	if !ok {
		return false
	}
	_, password := u.User.Password()
	return !password && (u.Hostname() != "" || u.Scheme == "file" && strings.HasPrefix(u.Path, "/"))
}

// address parses an absolute URL of one of the schemes.
func address(s string, schemes ...string) (*url.URL, bool) {
	if !validText(s, maxAddress) || strings.ContainsAny(s, " \"<>\\^`{|}") {
		return nil, false
	}
	u, err := url.Parse(s)
	if err != nil || u.Opaque != "" || !slices.Contains(schemes, u.Scheme) {
		return nil, false
	}
	return u, true
}
