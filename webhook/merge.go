package webhook

import (
	"errors"
	"fmt"
	"strings"

	"github.com/assay-ci/assay"
)

// What GitLab and Pagure have in common: projects below each other, or without
// an owner, and requests that do not say where the branch to merge into is.

// validProject takes the path of a project, of at least so many parts, each of
// letters, digits and _ - . +, beginning with none of - . + (GitLab: "Limitations
// on project and group names"; Pagure's names are the same).
func validProject(s string, parts int) bool {
	if len(s) > maxRef || strings.Count(s, "/") < parts-1 {
		return false
	}
	for part := range strings.SplitSeq(s, "/") {
		if !madeOf(part, alnum+"_", nameRest, 255) {
			return false
		}
	}
	return true
}

// forgeHost takes the host of an address in lower case, and what of its path is
// left without end.
func forgeHost(s, end string) (host, root string, err error) {
	u, ok := address(s, "http", "https")
	if !ok || u.User != nil || !madeOf(u.Host, alnum, alnum+".:-", maxName*2) {
		return "", "", fmt.Errorf("must be an https address, not %s", quote(s))
	}
	root, found := strings.CutSuffix(u.Path, end)
	if root = strings.Trim(root, "/"); !found || root == "" {
		return strings.ToLower(u.Host), "", nil
	}
	if !validProject(root, 1) {
		return "", "", fmt.Errorf("must be an https address with a plain path, not %s", quote(s))
	}
	return strings.ToLower(u.Host), "/" + root, nil
}

// proposedAnywhere is proposed for forges that do not say where the base branch
// is.
func proposedAnywhere(e assay.Event, ignored string) (assay.Event, error) {
	return proposedIf(e, ignored, checkMerge(e))
}

// aside is below for the same forges.
func aside(e, pull assay.Event, number int) assay.Event {
	e.PullRequest, pull.PullRequest = number, number
	if checkMerge(pull) == nil {
		e.Ref, e.Commit = pull.Ref, pull.Commit
	}
	return e
}

func checkMerge(e assay.Event) error {
	switch {
	case e.PullRequest <= 0:
		return errors.New("the number of the request must be a positive number")
	case !validRef(e.Ref):
		return fmt.Errorf("the branch to merge into must be a branch, not %s", quote(e.Ref))
	case !validCommit(e.Commit):
		return fmt.Errorf("the commit to check must be %s, not %s", wantCommit, quote(e.Commit))
	}
	return nil
}
