package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/assay-ci/assay"
)

// Bounds of what is taken from a payload, in bytes.
const (
	maxName    = 128  // a package, a version, an arch, an id
	maxRef     = 1024 // a ref name; git itself stops near 4096
	maxAddress = 2048 // a URL or a path
	maxQuote   = 48   // what an error quotes
)

const (
	digits   = "0123456789"
	letters  = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	alnum    = letters + digits
	idChars  = alnum + "._:-"
	nameRest = alnum + "._+-"
)

// madeOf tells whether s is 1 to limit bytes of allowed, beginning with one of
// first.
func madeOf(s, first, allowed string, limit int) bool {
	if s == "" || len(s) > limit || strings.IndexByte(first, s[0]) < 0 {
		return false
	}
	for i := range len(s) {
		if strings.IndexByte(allowed, s[i]) < 0 {
			return false
		}
	}
	return true
}

func validID(s string) bool { return madeOf(s, alnum, idChars, maxName) }

// validHash takes SHA-1 and SHA-256 object names as git prints them.
func validHash(s string) bool {
	return (len(s) == 40 || len(s) == 64) && madeOf(s, "0123456789abcdef", "0123456789abcdef", 64)
}

// zeroHash is what forges and git write where there is no commit.
func zeroHash(s string) bool { return validHash(s) && strings.Trim(s, "0") == "" }

// noZero turns "no commit" into "".
func noZero(s string) string {
	if zeroHash(s) {
		return ""
	}
	return s
}

// validRef follows git-check-ref-format(1) for a full name that begins with
// refs/, and wants UTF-8 without control characters besides.
func validRef(s string) bool {
	if !strings.HasPrefix(s, "refs/") || len(s) > maxRef || plain(s) != s {
		return false
	}
	if strings.ContainsAny(s, " ~^:?*[\\") || strings.Contains(s, "..") || strings.Contains(s, "@{") || strings.HasSuffix(s, ".") {
		return false
	}
	for _, part := range strings.Split(s, "/") {
		if part == "" || part[0] == '.' || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	return true
}

// validText tells whether s is 1 to limit bytes of UTF-8 without control
// characters, and neither begins nor ends with white space.
func validText(s string, limit int) bool {
	return s != "" && len(s) <= limit && plain(s) == s && strings.TrimSpace(s) == s
}

// plain replaces what does not belong on one line of text: control and format
// characters (which may reorder a terminal's line), and bytes that are not UTF-8.
func plain(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// cut shortens s to at most limit bytes, between characters.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// clip makes a hostile word fit for a log field.
func clip(s string) string {
	s = plain(s)
	if len(s) > maxName {
		return cut(s, maxName) + "…"
	}
	return s
}

// quote makes a hostile word fit for an error: quoted, escaped, bounded, without
// the user name and password that an address may have.
func quote(s string) string {
	if scheme, rest, found := strings.Cut(s, "://"); found {
		if at := strings.LastIndexByte(rest, '@'); at >= 0 {
			s = scheme + "://…" + rest[at:]
		}
	}
	if len(s) > maxQuote {
		return strconv.QuoteToGraphic(cut(s, maxQuote)) + "…"
	}
	return strconv.QuoteToGraphic(s)
}

// meaning is a digest of what an event says. Its parts hold no NUL, being free
// of control characters, so that NUL may part them.
func meaning(kind assay.EventKind, parts ...string) string {
	sum := sha256.Sum256([]byte(string(kind) + "\x00" + strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
}
