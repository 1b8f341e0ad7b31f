package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"

	"github.com/assay-ci/assay"
)

// Keys say whose deliveries a source takes.
type Keys struct {
	// Secrets are the shared secrets of which any one may have signed: while a
	// secret is being changed, the old one and the new one. Empty ones count
	// for nothing.
	Secrets [][]byte
	// Scoped are secrets that are good for some repositories only, any number of
	// them for one repository.
	Scoped []ScopedSecret
	// Unsigned lets deliveries in without a signature. It counts only when there
	// are no secrets of either kind; make it with AllowUnsigned.
	Unsigned Unsigned
}

// ScopedSecret is a secret that vouches for the events of some repositories.
type ScopedSecret struct {
	// Repo is an Event.Repo, "github.com/owner/name", whose parts may have "*"
	// and "?" as in a shell; a last part "**" stands for one part or more
	// ("gitlab.com/group/**"). The host's case does not matter. For a build event
	// it is the package that counts, because that is what decides about it:
	// "rpms/hello", "rpms/*".
	Repo   string
	Secret []byte
}

// Unsigned is the operator's decision to take unsigned deliveries. The zero
// value does not allow them.
type Unsigned struct{ address string }

// AllowUnsigned makes that decision for a server that listens on address,
// "HOST:PORT". It refuses every address that others than this machine can
// reach; a host name other than "localhost" is not looked up.
func AllowUnsigned(address string) (Unsigned, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return Unsigned{}, fmt.Errorf("cannot take unsigned events on %q: it is not HOST:PORT", address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return Unsigned{}, fmt.Errorf("cannot take unsigned events on %s: others can reach it: listen on 127.0.0.1 or set a secret", address)
	}
	return Unsigned{address: address}, nil
}

// shortSecret is the length in bytes under which a secret is worth a warning:
// that of 128 random bits.
const shortSecret = 16

// signer checks what a delivery brings against every secret.
type signer struct {
	keys   Keys
	scheme scheme
}

// newSigner is for senders that sign as GitHub does: header has "sha256=" and
// the HMAC in hexadecimal.
func newSigner(keys Keys, header string) signer {
	return newSignerOf(keys, hexScheme("sha256=", header))
}

// newSignerOf copies the keys, without the empty secrets.
func newSignerOf(keys Keys, scheme scheme) signer {
	own := Keys{Unsigned: keys.Unsigned}
	for _, secret := range keys.Secrets {
		if len(secret) > 0 {
			own.Secrets = append(own.Secrets, append([]byte(nil), secret...))
		}
	}
	for _, scoped := range keys.Scoped {
		if len(scoped.Secret) > 0 {
			own.Scoped = append(own.Scoped, ScopedSecret{scoped.Repo, append([]byte(nil), scoped.Secret...)})
		}
	}
	return signer{keys: own, scheme: scheme}
}

// empty tells that there is no secret of either kind.
func (s signer) empty() bool { return len(s.keys.Secrets)+len(s.keys.Scoped) == 0 }

// all lists the secrets of both kinds.
func (k Keys) all() [][]byte {
	all := slices.Clone(k.Secrets)
	for _, scoped := range k.Scoped {
		all = append(all, scoped.Secret)
	}
	return all
}

// Verify checks what the delivery brings against every secret. A scoped one is
// as good as any here; Vouch looks at what it is good for.
func (s signer) Verify(header http.Header, body []byte) error {
	if s.empty() {
		if s.keys.Unsigned.address != "" {
			return nil
		}
		return errors.New("cannot accept the delivery: no secret is configured: set webhook.secret_files")
	}
	fits, err := s.scheme(header, body)
	if err != nil {
		return fmt.Errorf("cannot accept the delivery: %v", err)
	}
	everywhere, scopes := s.which(fits)
	if !everywhere && len(scopes) == 0 {
		return errors.New("cannot accept the delivery: the signature does not fit: check that both sides have the same secret")
	}
	return nil
}

// Vouch tells whether a secret that fits a verified delivery is good for an
// event in it. A ping names no repository and does nothing: any secret will do.
func (s signer) Vouch(header http.Header, body []byte, e assay.Event) error {
	if len(s.keys.Scoped) == 0 || e.Kind == assay.EventPing {
		return nil
	}
	fits, err := s.scheme(header, body)
	if err != nil {
		return fmt.Errorf("cannot accept the delivery: %v", err)
	}
	everywhere, scopes := s.which(fits)
	if everywhere || inScope(e, scopes) {
		return nil
	}
	return fmt.Errorf("cannot accept the delivery: its secret is not that of %s: use the one that is configured for it", quote(scopeOf(e)))
}

// which tries every secret, so that the time does not tell which one fits.
func (s signer) which(fits func(secret []byte) bool) (everywhere bool, scopes []string) {
	for _, secret := range s.keys.Secrets {
		if fits(secret) {
			everywhere = true
		}
	}
	for _, scoped := range s.keys.Scoped {
		if fits(scoped.Secret) {
			scopes = append(scopes, scoped.Repo)
		}
	}
	return everywhere, scopes
}

// Warning tells the operator when the keys let everything in, or nothing.
func (s signer) Warning() string {
	if s.empty() {
		if a := s.keys.Unsigned.address; a != "" {
			return "deliveries are taken without a signature, because the configuration says so and only this machine reaches " + a
		}
		return "every delivery will be refused: no secret is configured: set webhook.secret_files"
	}
	for _, scoped := range s.keys.Scoped {
		if !validScope(scoped.Repo) {
			return fmt.Sprintf("a secret is good for nothing: %s is no pattern of repositories: write HOST/OWNER/NAME, HOST/OWNER/* or HOST/GROUP/**", quote(scoped.Repo))
		}
	}
	for _, secret := range s.keys.all() {
		if len(secret) < shortSecret {
			return fmt.Sprintf("a secret of this source has fewer than %d bytes: make a longer one", shortSecret)
		}
	}
	return ""
}

// digest is the HMAC-SHA-256 of parts, one after the other.
func digest(secret []byte, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, secret)
	for _, part := range parts {
		mac.Write(part)
	}
	return mac.Sum(nil)
}

// Sign returns the value of a signature header for body: "sha256=" and 64 hex
// digits, HMAC-SHA-256 as GitHub documents it ("Validating webhook deliveries").
func Sign(secret, body []byte) string {
	return "sha256=" + hex.EncodeToString(digest(secret, body))
}
