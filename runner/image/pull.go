package image

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/assay-ci/assay/internal/filelock"
)

// PullOptions say what to download. Either Ref or URL is given, and with a URL
// either SHA256 or Sums.
type PullOptions struct {
	Name string // the image's; "" for the one that the release has (NameFor)
	Ref  string // an image of the catalogue: "fedora:42"
	// Mirror is where the files of Ref's distribution begin on a mirror; "" for
	// the distribution's own server.
	Mirror string
	URL    string // http or https
	SHA256 string // of the file at URL, 64 hexadecimal digits
	Sums   string // the address of a file with the checksum, SHA-256 or SHA-512, of the file at URL
	// Boot, Distro, Release, Arch and Replace are as in ImportOptions; Ref says
	// what it is an image of.
	Boot, Distro, Release, Arch string
	Replace                     bool
	MaxBytes                    int64        // of the file; 0 for 16 GiB
	Client                      *http.Client // nil for one that follows redirects on the web only
	Progress                    func(Progress)

	wait func(ctx context.Context, failed int) bool // between tries; tests need not wait
}

// maximumPull is the largest file that is downloaded.
const maximumPull = 16 << 30

// Pull downloads a cloud image and makes an image of it, as Import does. It uses
// nothing before its checksum was found right. A download that was cut off, by
// the network or kill -9, goes on where it was. An image that is there already,
// with the checksum that is published now, is left as it is.
func (s Store) Pull(ctx context.Context, options PullOptions) (Image, error) {
	meter := newMeter(options.Progress)
	defer meter.close()
	p := pull{store: s, options: options, meter: meter}
	if err := p.plan(); err != nil {
		return Image{}, err
	}
	if err := errors.Join(s.mayReplace(p.source), checkTools(missing(importTools()))); err != nil {
		return Image{}, err
	}
	if err := p.run(ctx); err != nil {
		return Image{}, fmt.Errorf("cannot pull the image %s: %w", p.source.name, err)
	}
	return s.Find(p.source.name)
}

// pull is one image on its way.
type pull struct {
	store   Store
	options PullOptions
	meter   *meter
	source  source
	url     string
	sums    string
	sum     checksum
}

// plan finds out what is to be downloaded, without the network.
func (p *pull) plan() error {
	o := p.options
	p.url, p.sums = o.URL, o.Sums
	switch {
	case (o.Ref == "") == (o.URL == ""):
		return errors.New("cannot pull: say what, either as in fedora:42 or as an address")
	case o.Ref != "":
		entry, err := Lookup(o.Ref, o.Arch, o.Mirror)
		if err != nil {
			return err
		}
		p.url, p.sums = entry.URL, entry.Sums
		o.Distro, o.Release, o.Arch = entry.Distro, entry.Release, entry.Arch
	case o.SHA256 == "" && o.Sums == "":
		return fmt.Errorf("cannot pull %s without its checksum: add --sha256 HEX, or --sums with the address of the file that has it", o.URL)
	}
	if o.SHA256 != "" {
		var err error
		if p.sum, err = parseChecksum(o.SHA256); err != nil || p.sum.algorithm != "sha256" {
			return fmt.Errorf("cannot read %q as a SHA-256 checksum: it has 64 hexadecimal digits", o.SHA256)
		}
	}
	for _, address := range []string{p.url, cmp.Or(p.sums, p.url)} {
		if _, err := webAddress(address); err != nil {
			return fmt.Errorf("cannot pull: %w", err)
		}
	}
	if o.Name == "" {
		if o.Name = NameOf(withoutSecrets(p.url), o.Distro, o.Release, o.Arch); checkName(o.Name) != nil {
			return fmt.Errorf("cannot name the image after %s: name it with --name", p.url)
		}
	}
	var err error
	p.source, err = ImportOptions{
		Name: o.Name, Boot: o.Boot, Distro: o.Distro, Release: o.Release, Arch: o.Arch, Replace: o.Replace,
	}.source("")
	return err
}

// NameOf is what an image is called that nobody named: after its release, else
// after its file or address. It may be no good as a name.
func NameOf(file, distro, release, arch string) string {
	if distro != "" && release != "" {
		return NameFor(distro, release, arch)
	}
	name := strings.ToLower(path.Base(file))
	for _, suffix := range []string{".xz", ".qcow2", ".img", ".raw"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return name
}

// run does everything that needs the network.
func (p *pull) run(ctx context.Context) error {
	if err := p.resolve(ctx); err != nil {
		return err
	}
	p.source.origin = withoutSecrets(p.url)
	p.source.originSum = p.sum.algorithm + ":" + p.sum.hex
	found, err := p.store.Find(p.source.name)
	if err == nil && found.OriginSum == p.source.originSum && !p.source.replace {
		return nil
	}
	part, unlock, err := p.store.part(ctx, p.url, func() { p.meter.stage("waiting for another download") })
	if err != nil {
		return err
	}
	defer unlock()
	if err := p.fetch(ctx, part); err != nil {
		return err
	}
	err = p.store.adopt(ctx, p.source, p.meter, func(_ context.Context, target string) error {
		// Another name for the same file: should the rest fail, it is not lost.
		if os.Link(part, target) == nil {
			return nil
		}
		return os.Rename(part, target)
	})
	if err != nil {
		return err
	}
	return forgetPart(part)
}

// resolve finds the names that change with every build, and the checksum.
func (p *pull) resolve(ctx context.Context) error {
	client := &small{client: p.options.Client, wait: p.wait()}
	p.meter.stage("looking for the image")
	for _, address := range []*string{&p.url, &p.sums} {
		dir, name := path.Split(*address)
		if !strings.Contains(name, "*") {
			continue
		}
		listing, err := client.get(ctx, dir)
		if err != nil {
			return err
		}
		exact, err := newest(listing, name)
		if err != nil {
			return fmt.Errorf("%w at %s: is there such a release? --mirror names another server", err, dir)
		}
		*address = dir + exact
	}
	if p.sum.hex != "" {
		return nil
	}
	text, err := client.get(ctx, p.sums)
	if err != nil {
		return err
	}
	name := path.Base(withoutSecrets(p.url))
	p.sum, err = findChecksum(text, name, strings.HasPrefix(path.Base(withoutSecrets(p.sums)), name+"."))
	if err != nil {
		return fmt.Errorf("%w: see %s", err, p.sums)
	}
	return nil
}

func (p *pull) wait() func(context.Context, int) bool {
	if p.options.wait != nil {
		return p.options.wait
	}
	return backOff
}

// fetch brings the file to part and makes sure that it is the right one. One
// that was put together from several tries and came out wrong is fetched anew.
func (p *pull) fetch(ctx context.Context, part string) error {
	one := newDownload(p.options.Client, p.url, part, cmp.Or(p.options.MaxBytes, maximumPull), p.meter)
	one.wait = p.wait()
	for again := one.have() > 0; ; again = false {
		if err := one.run(ctx); err != nil {
			return err
		}
		p.meter.bytes("verifying the checksum", one.have())
		got, same, err := p.sum.verify(part, func(r io.Reader) io.Reader { return &counted{ctx: ctx, r: r, meter: p.meter} })
		if err != nil || same {
			return err
		}
		if err := forgetPart(part); err != nil {
			return err
		}
		if !again {
			return fmt.Errorf("its %s is %s, and must be %s: what came from %s is not what was published; it was thrown away; mirrors that are being updated do that for a while: try again later, or another --mirror",
				p.sum.algorithm, got, p.sum.hex, withoutSecrets(p.url))
		}
	}
}

// withoutSecrets is an address as it may be kept and shown: without a password,
// and without what signed addresses have behind the question mark.
func withoutSecrets(address string) string {
	u, err := webAddress(address)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// part is where a download's beginning is kept, locked for this process; what
// was begun long ago and never ended is removed.
func (s Store) part(ctx context.Context, address string, waiting func()) (path string, unlock func(), err error) {
	dir := filepath.Join(s.Root, ".cache")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, fmt.Errorf("cannot make the download cache: %w", err)
	}
	sum := sha256.Sum256([]byte(address))
	path = filepath.Join(dir, "pull-"+hex.EncodeToString(sum[:8])+".part")
	unlock, err = filelock.Wait(ctx, path+".lock", waiting)
	if err != nil {
		return "", nil, fmt.Errorf("cannot lock the download of %s: %w", withoutSecrets(address), err)
	}
	forgetStale(dir, path)
	return path, unlock, nil
}

// forgetStale removes downloads, but keep, that nobody went on with for a week.
func forgetStale(dir, keep string) {
	parts, err := filepath.Glob(filepath.Join(dir, "pull-*.part"))
	if err != nil {
		return
	}
	for _, part := range parts {
		info, err := os.Stat(part)
		if err != nil || part == keep || time.Since(info.ModTime()) < cacheFor {
			continue
		}
		if unlock, err := filelock.Try(part + ".lock"); err == nil {
			_ = forgetPart(part) // the next download tries again
			unlock()
		}
	}
}

// forgetPart removes a download; its lock stays, because somebody may wait for it.
func forgetPart(part string) error {
	var errs []error
	for _, name := range []string{part, part + ".json"} {
		if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// small fetches what is small: listings and checksums.
type small struct {
	client *http.Client
	wait   func(ctx context.Context, failed int) bool
}

// get fetches a small file. One that was asked for safely is not taken from an
// unsafe place: it says what is right.
func (s *small) get(ctx context.Context, address string) ([]byte, error) {
	client := http.Client{Timeout: silence}
	if s.client != nil {
		client = *s.client
	}
	client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
			return permanent{fmt.Errorf("it was redirected to %s, which is not safe", r.URL.Redacted())}
		}
		return onlyWeb(r, via)
	}
	for failed := 1; ; failed++ {
		text, again, err := s.try(ctx, &client, address)
		if err == nil || !again || failed >= tries || !s.wait(ctx, failed) {
			return text, err
		}
	}
}

// try fetches once; again tells whether another try may help.
func (s *small) try(ctx context.Context, client *http.Client, address string) (text []byte, again bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, false, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, ctx.Err() == nil && !errors.As(err, new(permanent)), fmt.Errorf("%w (%s)", withoutAddress(err), withoutSecrets(address))
	}
	defer func() { _ = response.Body.Close() }() // read as far as it is wanted
	if response.StatusCode != http.StatusOK {
		return nil, response.StatusCode >= 500, fmt.Errorf("the server says %s to %s", response.Status, withoutSecrets(address))
	}
	text, err = io.ReadAll(io.LimitReader(response.Body, maxSums+1))
	if err == nil && len(text) > maxSums {
		return nil, false, fmt.Errorf("%s has more than %d bytes", withoutSecrets(address), maxSums)
	}
	return text, ctx.Err() == nil, err
}
