package forge

import (
	"context"

	"github.com/assay-ci/assay"
)

// Asker is a Forge that answers questions about a repository, which is named by
// its configured address. Errors are those of a Forge; one that does not exist
// is a *PermanentError that wraps assay.ErrNotFound, but a pull request may be
// missing for a moment after its event, so the caller asks again.
type Asker interface {
	// MayWrite tells whether the account may push to the repository.
	MayWrite(ctx context.Context, repo, user string) (bool, error)
	// PullRequest returns a pull request (merge request) as it is now.
	PullRequest(ctx context.Context, repo string, number int) (assay.PullRequest, error)
}

// Reactor is a Forge that answers a comment with a picture. It is idempotent.
// commit has the pull request that the comment is on.
type Reactor interface {
	React(ctx context.Context, commit assay.Commit, comment string, reaction assay.Reaction) error
}

// Appender is a Forge whose comments cannot be edited: each Comment with another
// text than the last adds one. Who has news to come waits for the last of it.
type Appender interface{ Appends() bool }
