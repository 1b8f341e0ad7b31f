// Package fetch downloads what a build made, on the host, from where the
// operator allows and nowhere else: an address out of an event is a stranger's
// word.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
)

// Client downloads files.
type Client struct {
	HTTP  *http.Client
	From  []string // address prefixes that are allowed
	Bytes int64    // for all files of one call together
}

// ErrNotAllowed tells that an address is under none of the allowed prefixes.
var ErrNotAllowed = errors.New("the operator does not allow it")

// fileName is what a downloaded file may be called.
var fileName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+~^%:-]{0,254}$`)

// All downloads each address into dir, under the last element of its path. It
// fails at the first that cannot be had, with the address in the error.
func (c *Client) All(ctx context.Context, addresses []string, dir string) error {
	left := c.Bytes
	for _, address := range addresses {
		n, err := c.one(ctx, address, dir, left)
		if err != nil {
			return fmt.Errorf("cannot download %q: %w", address, err)
		}
		left -= n
	}
	return nil
}

func (c *Client) one(ctx context.Context, address, dir string, left int64) (int64, error) {
	u, err := url.Parse(address)
	if err != nil {
		return 0, errors.New("it is no address")
	}
	if !Prefixes(c.From).Allow(u) {
		return 0, fmt.Errorf("%w: add its prefix to builds.from in the configuration", ErrNotAllowed)
	}
	name := path.Base(u.Path)
	if !fileName.MatchString(name) {
		return 0, fmt.Errorf("%q is no name for a file", name)
	}
	resp, err := c.get(ctx, u)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return save(filepath.Join(dir, name), resp.Body, left)
}

// get follows redirects only to where downloads are allowed.
func (c *Client) get(ctx context.Context, u *url.URL) (*http.Response, error) {
	client := *c.HTTP
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) >= 10 || !Prefixes(c.From).Allow(req.URL) {
			return fmt.Errorf("redirected to %s: %w", req.URL.Redacted(), ErrNotAllowed)
		}
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("the server answered %s", resp.Status)
	}
	return resp, nil
}

func save(file string, body io.Reader, left int64) (int64, error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, io.LimitReader(body, left+1))
	if err == nil && n > left {
		err = errors.New("the builds of one execution are larger than the limit")
	}
	return n, errors.Join(err, f.Close())
}
