package watch

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/assay-ci/assay"
)

// PushMeaning is what web forges' pushes mean in the inbox: the SHA-256, in hex, of
// the event's kind, repository, ref and commit with a NUL between them. A test holds
// it against the intake's own recorded pushes. It is "" for the sources "git",
// whose hook tells every push apart, and "watch", which no webhook shares.
func PushMeaning(e assay.Event) string {
	if e.Source == "git" || e.Source == sourceOfNobody {
		return ""
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{string(e.Kind), e.Repo, e.Ref, e.Commit}, "\x00")))
	return hex.EncodeToString(sum[:])
}
