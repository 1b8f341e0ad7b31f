package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// scheme is how the senders of a source prove that they know a secret. It reads
// the proof and returns what tells, in constant time, whether a secret made it.
// Its error says what the delivery lacks, and is for the sender.
type scheme func(header http.Header, body []byte) (fits func(secret []byte) bool, err error)

// hexScheme is an HMAC-SHA-256 of the body in hexadecimal after a prefix, or ""
// for none. The first of the headers that is there counts: a good one does not
// make up for a bad one before it.
func hexScheme(prefix string, headers ...string) scheme {
	return func(header http.Header, body []byte) (func([]byte) bool, error) {
		for _, name := range headers {
			if given := header.Get(name); given != "" {
				return hexProof(name, prefix, given, body)
			}
		}
		return nil, fmt.Errorf("it has no %s header: sign it with the shared secret", headers[0])
	}
}

func hexProof(name, prefix, given string, body []byte) (func([]byte) bool, error) {
	digits, found := strings.CutPrefix(given, prefix)
	mac, err := hex.DecodeString(digits)
	if !found || err != nil || len(mac) != sha256.Size {
		want := "64 hex digits"
		if prefix != "" {
			want = prefix + " and " + want
		}
		return nil, fmt.Errorf("the %s header is not %s", name, want)
	}
	return func(secret []byte) bool { return hmac.Equal(mac, digest(secret, body)) }, nil
}

// tokenScheme is the secret itself in a header. Both sides are hashed, so that
// not even the length of a secret shows in the time.
func tokenScheme(name string) scheme {
	return func(header http.Header, _ []byte) (func([]byte) bool, error) {
		given := header.Get(name)
		if given == "" {
			return nil, fmt.Errorf("it has no %s header: set the secret token of the webhook", name)
		}
		sum := sha256.Sum256([]byte(given))
		return func(secret []byte) bool {
			want := sha256.Sum256(secret)
			return subtle.ConstantTimeCompare(sum[:], want[:]) == 1
		}, nil
	}
}

// Headers and forms of Standard Webhooks (specification, "Verifying webhook
// authenticity").
const (
	standardID        = "Webhook-Id"
	standardTime      = "Webhook-Timestamp"
	standardSignature = "Webhook-Signature"
	standardPrefix    = "whsec_"
	standardVersion   = "v1,"
	maxSignatures     = 16
)

// standardScheme is an HMAC-SHA-256 of id, time and body together, in base64,
// of which several may be given while the sender changes its secret. The key is
// what follows "whsec_" in the secret; other secrets fit nothing.
func standardScheme(header http.Header, body []byte) (func([]byte) bool, error) {
	id, sent := header.Get(standardID), header.Get(standardTime)
	if id == "" || sent == "" {
		return nil, fmt.Errorf("it has a %s header without %s and %s", standardSignature, standardID, standardTime)
	}
	var macs [][]byte
	for _, given := range strings.Fields(header.Get(standardSignature)) {
		text, known := strings.CutPrefix(given, standardVersion)
		mac, err := base64.StdEncoding.DecodeString(text)
		if known && err == nil && len(mac) == sha256.Size {
			macs = append(macs, mac)
		}
	}
	if len(macs) == 0 || len(macs) > maxSignatures {
		return nil, fmt.Errorf("the %s header is not %s and 32 bytes in base64", standardSignature, standardVersion)
	}
	prefix := []byte(id + "." + sent + ".")
	return func(secret []byte) bool { return standardFits(secret, macs, prefix, body) }, nil
}

func standardFits(secret []byte, macs [][]byte, signed ...[]byte) bool {
	key, err := standardKey(secret)
	if err != nil {
		return false
	}
	want, fits := digest(key, signed...), false
	for _, mac := range macs {
		if hmac.Equal(mac, want) {
			fits = true
		}
	}
	return fits
}

// standardKey takes the key out of a signing token.
func standardKey(secret []byte) ([]byte, error) {
	text, found := strings.CutPrefix(strings.TrimSpace(string(secret)), standardPrefix)
	key, err := base64.StdEncoding.DecodeString(text)
	if !found || err != nil || len(key) == 0 {
		return nil, errors.New("it is no signing token")
	}
	return key, nil
}
