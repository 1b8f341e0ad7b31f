package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
)

// Keys say whose deliveries a source takes.
type Keys struct {
	// Secrets are the shared secrets of which any one may have signed: while a
	// secret is being changed, the old one and the new one. Empty ones count
	// for nothing.
	Secrets [][]byte
	// Unsigned lets deliveries in without a signature. It counts only when there
	// are no secrets; make it with AllowUnsigned.
	Unsigned Unsigned
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

// signer checks one signature header.
type signer struct {
	keys   Keys
	header string // canonical name of the header with "sha256=HEX"
}

func newSigner(keys Keys, header string) signer {
	secrets := make([][]byte, 0, len(keys.Secrets))
	for _, secret := range keys.Secrets {
		if len(secret) > 0 {
			secrets = append(secrets, append([]byte(nil), secret...))
		}
	}
	return signer{keys: Keys{Secrets: secrets, Unsigned: keys.Unsigned}, header: header}
}

// Verify checks the signature over the raw body against every secret.
func (s signer) Verify(header http.Header, body []byte) error {
	if len(s.keys.Secrets) == 0 {
		if s.keys.Unsigned.address != "" {
			return nil
		}
		return errors.New("cannot accept the delivery: no secret is configured: set webhook.secret_files")
	}
	given := header.Get(s.header)
	if given == "" {
		return fmt.Errorf("cannot accept the delivery: it has no %s header: sign it with the shared secret", s.header)
	}
	digits, found := strings.CutPrefix(given, "sha256=")
	mac, err := hex.DecodeString(digits)
	if !found || err != nil || len(mac) != sha256.Size {
		return fmt.Errorf("cannot accept the delivery: the %s header is not sha256= and 64 hex digits", s.header)
	}
	if !s.any(mac, body) {
		return errors.New("cannot accept the delivery: the signature does not fit: check that both sides have the same secret")
	}
	return nil
}

// any tries every secret, so that the time does not tell which one fits.
func (s signer) any(mac, body []byte) bool {
	fits := false
	for _, secret := range s.keys.Secrets {
		if hmac.Equal(mac, digest(secret, body)) {
			fits = true
		}
	}
	return fits
}

// Warning tells the operator when the keys let everything in, or nothing.
func (s signer) Warning() string {
	if len(s.keys.Secrets) == 0 {
		if a := s.keys.Unsigned.address; a != "" {
			return "deliveries are taken without a signature, because the configuration says so and only this machine reaches " + a
		}
		return "every delivery will be refused: no secret is configured: set webhook.secret_files"
	}
	for _, secret := range s.keys.Secrets {
		if len(secret) < shortSecret {
			return fmt.Sprintf("a secret of this source has fewer than %d bytes: make a longer one", shortSecret)
		}
	}
	return ""
}

func digest(secret, body []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write(body)
	return mac.Sum(nil)
}

// Sign returns the value of a signature header for body: "sha256=" and 64 hex
// digits, HMAC-SHA-256 as GitHub documents it ("Validating webhook deliveries").
func Sign(secret, body []byte) string {
	return "sha256=" + hex.EncodeToString(digest(secret, body))
}
