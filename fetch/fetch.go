// Package fetch downloads what a build made, on the host, from where the
// operator allows and nowhere else: an address out of an event is a stranger's
// word.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"regexp"
)

// Client downloads files that are named by their addresses alone.
type Client struct {
	Web     *Web
	Cache   *Cache // where downloads are kept for others; nil for nowhere
	Scratch string // for downloads that are not kept; "" is the system's directory for such things
	Bytes   int64  // for all files of one call together
}

// ErrNotAllowed tells that an address is under none of the allowed prefixes.
var ErrNotAllowed = errors.New("the operator does not allow it")

// fileName is what a downloaded file may be called.
var fileName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+~^%:-]{0,254}$`)

// All downloads each address into dir, under the last element of its path, and
// tells how that goes. It fails at the first that cannot be had, with the address
// in the error. What an address has may change: what is kept of it is asked about.
func (c *Client) All(ctx context.Context, addresses []string, dir string, tell *Teller) error {
	if len(addresses) == 0 {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("cannot download into %s: %w", dir, err)
	}
	defer root.Close()
	cache, done, err := c.Cache.Use(c.Scratch)
	if err != nil {
		return err
	}
	b := &batch{Client: c, cache: cache, dir: root, tell: tell, left: c.Bytes, names: map[string]bool{}}
	for _, address := range addresses {
		if err = b.one(ctx, address); err != nil {
			err = fmt.Errorf("cannot download %q: %w", address, err)
			break
		}
	}
	if err := done(); err != nil {
		tell.Line("%v", err) // which is no trouble of the build's
	}
	return err
}

// batch is one call of All.
type batch struct {
	*Client
	cache *Cache
	dir   *os.Root
	tell  *Teller
	left  int64
	names map[string]bool
}

func (b *batch) one(ctx context.Context, address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return Refuse("it is no address")
	}
	name := path.Base(u.Path)
	switch {
	case !b.Web.Allowed.Allow(u):
		return &refusal{ErrNotAllowed.Error() + ": add its prefix to builds.from in the configuration", ErrNotAllowed}
	case !fileName.MatchString(name):
		return Refuse("%q is no name for a file", shown(name))
	case b.names[name]:
		return Refuse("another file is called %s, too", name)
	case b.left <= 0:
		return Refuse("the builds of one execution are larger than the limit of %s", size(b.Bytes))
	}
	b.names[name] = true
	n, err := b.cache.Have(ctx, b.Web, Want{URL: u.String(), Name: name, Max: b.left}, b.dir, name, b.tell)
	b.left -= n
	return err
}
