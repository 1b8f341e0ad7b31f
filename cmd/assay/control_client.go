package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

// maxAnswer bounds what a command reads: the largest body there is, in base64,
// with room for the rest.
const maxAnswer = 64 << 20

// serverFlags say which running server a command is about.
type serverFlags struct{ file, data string }

func (f *serverFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.file, "config", "c", "", "the server's configuration file (defaults hold without one)")
	cmd.Flags().StringVar(&f.data, "data", "", "the server's data directory, instead of the configured one")
}

// connect finds the server's directory; nothing is sent yet.
func (f *serverFlags) connect() (*controlClient, error) {
	data := f.data
	if data == "" {
		cfg, err := loadConfig(f.file)
		if err != nil {
			return nil, &exitError{exitUsage, err}
		}
		data = cfg.Data
	}
	data, err := filepath.Abs(data)
	if err != nil {
		return nil, err
	}
	return &controlClient{data: data}, nil
}

// controlClient asks a running server over the socket in its data directory.
type controlClient struct{ data string }

// call sends one request and reads the answer into out.
func (c *controlClient) call(ctx context.Context, method, path string, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://assay"+path, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DialContext: c.dial, DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return c.explain(err)
	}
	defer resp.Body.Close()
	answer := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode == http.StatusOK {
		if err := answer.Decode(out); err != nil {
			return fmt.Errorf("cannot read the server's answer: %w", err)
		}
		return nil
	}
	var refused controlRefusal
	if err := answer.Decode(&refused); err != nil || refused.Error == "" {
		return fmt.Errorf("cannot read the server's answer: it answered with %s", resp.Status)
	}
	if resp.StatusCode == http.StatusNotFound {
		refused.Error += ": see assay event list"
	}
	return errors.New(shown(refused.Error))
}

func (c *controlClient) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	path, done, err := socketPath(c.data, controlName)
	if err != nil {
		return nil, err
	}
	defer done()
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", path)
}

// explain says why no server could be asked.
func (c *controlClient) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("cannot reach the server of %s: none runs: start assay serve, or name its configuration with --config", c.data)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("cannot reach the server of %s: it runs as another user: be that user, or root", c.data)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("cannot reach the server of %s: it hung up: it is ending", c.data)
	}
	return fmt.Errorf("cannot reach the server of %s: %w", c.data, err)
}
