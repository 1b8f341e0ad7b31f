package forgetest_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/assay-ci/assay/forge/forgetest"
)

// sign makes a JWT of these parts with the key in a file.
func sign(t *testing.T, keyFile, header, claims string) string {
	t.Helper()
	text, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(header)) + "." + encode([]byte(claims))
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + encode(signature)
}

// The App of the test server takes no signature that GitHub would not take.
func TestJWTsAreVerified(t *testing.T) {
	server := forgetest.NewGitHub(t)
	_, keyFile := server.AddApp(nil)
	other := forgetest.NewGitHub(t)
	_, otherKey := other.AddApp(nil)
	const rs256 = `{"alg":"RS256","typ":"JWT"}`
	claims := func(iss string, issued, expires time.Duration) string {
		now := time.Now()
		return fmt.Sprintf(`{"iss":%q,"iat":%d,"exp":%d}`, iss, now.Add(issued).Unix(), now.Add(expires).Unix())
	}
	good := sign(t, keyFile, rs256, claims("777", -time.Minute, time.Minute))
	tests := map[string]struct {
		authorization string
		want          int
	}{
		"good":                 {"Bearer " + good, 200},
		"token in its place":   {"token " + good, 401},
		"another key":          {"Bearer " + sign(t, otherKey, rs256, claims("777", -time.Minute, time.Minute)), 401},
		"another App":          {"Bearer " + sign(t, keyFile, rs256, claims("778", -time.Minute, time.Minute)), 401},
		"no algorithm":         {"Bearer " + sign(t, keyFile, `{"alg":"none","typ":"JWT"}`, claims("777", -time.Minute, time.Minute)), 401},
		"over":                 {"Bearer " + sign(t, keyFile, rs256, claims("777", -5*time.Minute, -time.Minute)), 401},
		"valid for too long":   {"Bearer " + sign(t, keyFile, rs256, claims("777", -time.Minute, time.Hour)), 401},
		"issued in the future": {"Bearer " + sign(t, keyFile, rs256, claims("777", time.Minute, 2*time.Minute)), 401},
		"signature cut":        {"Bearer " + good[:strings.LastIndexByte(good, '.')+1], 401},
		"not base64":           {"Bearer !.!.!", 401},
		"a person's token":     {"Bearer " + server.Token, 401},
		"nothing":              {"", 401},
	}
	for name, test := range tests {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"app", nil)
		if err != nil {
			t.Fatal(err)
		}
		for key, value := range map[string]string{
			"Authorization": test.authorization, "Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28", "User-Agent": "test",
		} {
			req.Header.Set(key, value)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != test.want {
			t.Errorf("%s: status %d, want %d", name, resp.StatusCode, test.want)
		}
	}
}
