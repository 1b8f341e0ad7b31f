package libvirt

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"

	lv "github.com/digitalocean/go-libvirt"
)

// Bounds of a picture of a machine's screen.
const (
	maxScreen      = 64 << 20 // bytes of what libvirt sends
	maxScreenSide  = 8192     // pixels
	maxScreenValue = 255
)

// screen is a picture of the machine's screen, as PNG; nil for one without.
func (one *Machine) screen(ctx context.Context) ([]byte, error) {
	if !one.hasScreen {
		return nil, nil
	}
	raw := &bounded{limit: maxScreen}
	err := one.conn.do(ctx, func(l *lv.Libvirt) error {
		_, err := l.DomainScreenshot(one.monitor().domain, raw, 0, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot take a picture of the machine's screen: %w", err)
	}
	return toPNG(raw.Bytes())
}

// bounded is a buffer that takes only so much.
type bounded struct {
	bytes.Buffer
	limit int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.limit {
		return 0, errors.New("it is too large")
	}
	return b.Buffer.Write(p)
}

// toPNG turns a portable pixmap (ppm(5), "P6"), which is what QEMU makes of a
// screen, into a PNG. A newer QEMU may have made one already.
func toPNG(raw []byte) ([]byte, error) {
	if bytes.HasPrefix(raw, []byte("\x89PNG")) {
		return raw, nil
	}
	in := bufio.NewReader(bytes.NewReader(raw))
	var magic string
	var width, height, most int
	if _, err := fmt.Fscanf(in, "%s\n%d %d\n%d\n", &magic, &width, &height, &most); err != nil {
		return nil, fmt.Errorf("cannot read the picture of a screen: %w", err)
	}
	if magic != "P6" || most != maxScreenValue || width < 1 || height < 1 || width > maxScreenSide || height > maxScreenSide {
		return nil, fmt.Errorf("cannot read the picture of a screen: it is %q, %d by %d", magic, width, height)
	}
	picture := image.NewRGBA(image.Rect(0, 0, width, height))
	row := make([]byte, 3*width)
	for y := range height {
		if _, err := io.ReadFull(in, row); err != nil {
			return nil, fmt.Errorf("cannot read the picture of a screen: %w", err)
		}
		for x := range width {
			picture.SetRGBA(x, y, color.RGBA{row[3*x], row[3*x+1], row[3*x+2], 255})
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, picture); err != nil {
		return nil, fmt.Errorf("cannot write the picture of a screen: %w", err)
	}
	return out.Bytes(), nil
}
