package libvirt

import (
	"bytes"
	"image/color"
	"image/png"
	"testing"
)

func TestToPNG(t *testing.T) {
	got, err := toPNG([]byte("P6\n2 1\n255\n\x01\x02\x03\xff\xfe\xfd"))
	if err != nil {
		t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(got))
	if err != nil {
		t.Fatal(err)
	}
	for x, want := range []color.RGBA{{1, 2, 3, 255}, {255, 254, 253, 255}} {
		if got := color.RGBAModel.Convert(picture.At(x, 0)); got != want {
			t.Errorf("pixel %d is %v, not %v", x, got, want)
		}
	}
	if again, err := toPNG(got); err != nil || !bytes.Equal(again, got) {
		t.Errorf("a PNG does not stay one: %v", err)
	}
}

func FuzzToPNG(f *testing.F) {
	for _, seed := range []string{"P6\n2 1\n255\n123456", "P6\n2 1\n255\n123", "P6\n99999 99999\n255\n", "P6\n-1 1\n255\n", "P5\n1 1\n255\n1", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := toPNG(raw)
		if err == nil && !bytes.HasPrefix(got, []byte("\x89PNG")) {
			t.Errorf("%q became %q", raw, got)
		}
	})
}
