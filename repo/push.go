package repo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/storage/memory"
)

// refusedError tells that the repository did not move the ref: it was not, or
// no longer, where we saw it, or a hook is against it.
type refusedError struct{ reason string }

func (e *refusedError) Error() string {
	return "the repository did not take it: " + e.reason + ": look at its hooks and who may write to it"
}

// final tells that trying again is no use.
func (e *refusedError) final() bool {
	return strings.Contains(e.reason, "hook declined") || strings.Contains(e.reason, "prohibited")
}

// pushing is a connection to push one ref over.
type pushing struct {
	session transport.ReceivePackSession
	refs    *packp.AdvRefs
	address address
	closed  bool
}

func (m *mirror) startPush(ctx context.Context) (*pushing, error) {
	session, err := connect(ctx, m.address, transport.Transport.NewReceivePackSession)
	if err != nil {
		return nil, err
	}
	refs, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		_ = session.Close() // it failed before
		return nil, remoteError(ctx, m.address, err)
	}
	return &pushing{session: session, refs: refs, address: m.address}, nil
}

// close ends the connection, once.
func (p *pushing) close() {
	if !p.closed {
		p.closed = true
		_ = p.session.Close() // the outcome is known
	}
}

// push moves the ref from base, and from nowhere else, to next, and sends the
// objects that are new. git's own push sends the same three things: the name,
// both ends, and a pack.
func (p *pushing) push(ctx context.Context, ref string, base, next plumbing.Hash, made []plumbing.EncodedObject) error {
	if p.refs.References[ref] != base {
		return &refusedError{reason: "somebody else was quicker"}
	}
	pack, err := encodePack(made)
	if err != nil {
		return err
	}
	req := packp.NewReferenceUpdateRequestFromCapabilities(p.refs.Capabilities)
	req.Commands = []*packp.Command{{Name: plumbing.ReferenceName(ref), Old: base, New: next}}
	req.Packfile = io.NopCloser(bytes.NewReader(pack))
	report, err := p.session.ReceivePack(ctx, req)
	if ctx.Err() != nil {
		return remoteError(ctx, p.address, err)
	}
	if report != nil && report.Error() != nil {
		return &refusedError{reason: p.address.clean(report.Error().Error())}
	}
	if err != nil {
		return remoteError(ctx, p.address, err)
	}
	if report == nil || len(report.CommandStatuses) == 0 {
		return errors.New("the repository does not say whether it took it: use a newer git there")
	}
	return nil
}

func encodePack(objects []plumbing.EncodedObject) ([]byte, error) {
	store := memory.NewStorage()
	var names []plumbing.Hash
	for _, o := range objects {
		h, err := store.SetEncodedObject(o)
		if err != nil {
			return nil, err
		}
		names = append(names, h)
	}
	var b bytes.Buffer
	_, err := packfile.NewEncoder(&b, store, false).Encode(names, 0)
	return b.Bytes(), err
}
