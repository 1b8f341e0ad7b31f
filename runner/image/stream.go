package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// counted tells a meter how much was read, and ends when ctx does.
type counted struct {
	ctx   context.Context
	r     io.Reader
	meter *meter
}

func (c *counted) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.meter.add(int64(n))
	return n, err
}

// sparse writes a file without its zeros: disks are mostly that. Closing the
// file without end makes it too short.
type sparse struct {
	w    *os.File
	size int64
	max  int64 // bytes that are taken
	over bool  // there were more
}

func (s *sparse) Write(p []byte) (int, error) {
	if s.over = s.over || s.size+int64(len(p)) > s.max; s.over {
		return 0, fmt.Errorf("it has more than %d bytes", s.max)
	}
	const block = 4 << 10
	done := 0
	for len(p) > 0 {
		n := min(block, len(p))
		if len(bytes.TrimLeft(p[:n], "\x00")) > 0 {
			if _, err := s.w.WriteAt(p[:n], s.size); err != nil {
				return done, err
			}
		}
		s.size, done, p = s.size+int64(n), done+n, p[n:]
	}
	return done, nil
}

// end gives the file its length, where it ends in zeros.
func (s *sparse) end() error { return s.w.Truncate(s.size) }

// expandXZ decompresses a file with xz, which every distribution has. A small
// file that becomes a huge one is refused in time.
func expandXZ(ctx context.Context, from, to string, limit int64, meter *meter) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read from
	info, err := in.Stat()
	if err != nil {
		return err
	}
	meter.bytes("decompressing", info.Size())
	return writeTo(to, func(w *os.File) error {
		out := &sparse{w: w, max: limit}
		command := exec.CommandContext(ctx, "xz", "-dc", "--memlimit-decompress=1GiB")
		var complaint bytes.Buffer
		command.Stdin = &counted{ctx: ctx, r: in, meter: meter}
		command.Stdout, command.Stderr = out, &capped{&complaint, 4 << 10}
		err := command.Run()
		if out.over { // xz itself ends with a broken pipe then
			return fmt.Errorf("it decompresses to more than %d bytes", limit)
		}
		if errors.Is(err, exec.ErrNotFound) {
			return fmt.Errorf("cannot decompress it: %w: `apt-get install xz-utils` on Debian and Ubuntu, `dnf install xz` on Fedora", err)
		}
		if err != nil {
			return fmt.Errorf("cannot decompress it: %w: %s", err, bytes.TrimSpace(complaint.Bytes()))
		}
		return out.end()
	})
}
