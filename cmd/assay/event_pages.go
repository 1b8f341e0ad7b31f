package main

import (
	"context"

	"github.com/assay-ci/assay/results"
	"github.com/assay-ci/assay/web"
)

// pageInbox is results.Store as the pages want it. The two rooms' types have the
// same fields in the same order, which the conversions hold together.
type pageInbox struct{ *results.Store }

func (p pageInbox) Inbox(ctx context.Context, f web.InboxFilter) ([]web.InboxEntry, error) {
	found, err := p.Store.Inbox(ctx, results.InboxFilter(f))
	list := make([]web.InboxEntry, len(found))
	for i, e := range found {
		list[i] = web.InboxEntry(e)
	}
	return list, err
}

func (p pageInbox) InboxEntry(ctx context.Context, id string) (web.InboxEntry, error) {
	e, err := p.Store.InboxEntry(ctx, id)
	return web.InboxEntry(e), err
}
