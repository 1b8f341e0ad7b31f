package forgetest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// app is the one GitHub App that there may be.
type app struct {
	id        int64
	keyFile   string
	key       *rsa.PublicKey
	granted   map[string]string // permission to "read" or "write"
	installed map[string]int64  // installation by "owner/name"
	tokens    map[string]installationToken
	made      int // tokens
	last      installationToken
	life      time.Duration
}

// installationToken is what an installation was given.
type installationToken struct {
	repos       []string // names without owner; nil for all
	owner       string
	permissions map[string]string
	expires     time.Time
}

// actor is who asks.
type actor struct {
	user  int64
	self  bool               // the App itself, by a signed JWT
	token *installationToken // of the App's installation
}

// testKeyBits makes keys in no time; GitHub's have 2048.
const testKeyBits = 1024

// AddApp registers a GitHub App with these permissions ("checks": "write") and
// returns its id and the file with its private key.
func (g *GitHub) AddApp(permissions map[string]string) (id int64, keyFile string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.app = &app{
		id: 777, granted: permissions, installed: map[string]int64{}, tokens: map[string]installationToken{},
		keyFile: filepath.Join(g.t.TempDir(), "app.pem"), life: time.Hour,
	}
	g.newKey()
	return g.app.id, g.app.keyFile
}

// KeyFile is the file that AddApp made.
func (g *GitHub) KeyFile() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.app.keyFile
}

// NewKey gives the App another key, in the same file; the old one is void.
func (g *GitHub) NewKey() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.newKey()
}

func (g *GitHub) newKey() {
	key, err := rsa.GenerateKey(rand.Reader, testKeyBits)
	if err != nil {
		g.t.Errorf("cannot make a key: %v", err)
		return
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(g.app.keyFile, text, 0o600); err != nil {
		g.t.Errorf("cannot write the App's key: %v", err)
	}
	g.app.key = &key.PublicKey
}

// Install installs the App on a repository, anew if it was: under a new number,
// without the tokens there were.
func (g *GitHub) Install(repo string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lastID++
	g.app.installed[repo] = g.lastID
	clear(g.app.tokens)
}

// Uninstall takes it from a repository, with its tokens.
func (g *GitHub) Uninstall(repo string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.app.installed, repo)
	clear(g.app.tokens)
}

// RevokeTokens makes all of the App's tokens void.
func (g *GitHub) RevokeTokens() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.app.tokens)
}

// SetTokenLife is how long tokens live that are made from now on.
func (g *GitHub) SetTokenLife(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.app.life = d
}

// Tokens is how many tokens the App was given.
func (g *GitHub) Tokens() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.app.made
}

// LastToken tells what the newest token is for.
func (g *GitHub) LastToken() (repos []string, permissions map[string]string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.app.last.repos, g.app.last.permissions
}

// authenticate finds out who asks; it returns what is wrong with it.
func (g *GitHub) authenticate(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	g.actor = actor{}
	switch {
	case scheme != "Bearer" && scheme != "token" || token == "":
		return "Requires authentication"
	case token == g.Token:
		g.actor.user = OwnUser
	case strings.Count(token, ".") == 2 && g.app != nil:
		if err := g.app.verify(token, time.Now()); err != nil || scheme != "Bearer" {
			return fmt.Sprintf("A JSON web token could not be decoded: %v", err)
		}
		g.actor.user, g.actor.self = BotUser, true
	case g.app != nil:
		given, ok := g.app.tokens[token]
		if !ok || !given.expires.After(time.Now()) {
			return "Bad credentials"
		}
		g.actor.user, g.actor.token = BotUser, &given
	default:
		return "Bad credentials"
	}
	return ""
}

// verify checks a JWT as "Generating a JSON Web Token (JWT) for a GitHub App"
// has it: RS256, the App's id, issued in the past, at most ten minutes valid.
func (a *app) verify(token string, now time.Time) error {
	parts := strings.Split(token, ".")
	var header struct{ Alg, Typ string }
	var claims struct {
		Iat, Exp int64
		Iss      string
	}
	for i, into := range []any{&header, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, into); err != nil {
			return err
		}
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	switch {
	case header.Alg != "RS256" || header.Typ != "JWT":
		return fmt.Errorf("the header is %+v", header)
	case claims.Iss != strconv.FormatInt(a.id, 10):
		return fmt.Errorf("'Issuer' claim ('iss') is %q", claims.Iss)
	case claims.Iat > now.Unix():
		return fmt.Errorf("'Issued at' claim ('iat') must be an Integer representing a time in the past")
	case claims.Exp <= now.Unix() || claims.Exp-claims.Iat > 600:
		return fmt.Errorf("'Expiration time' claim ('exp') is too far in the future or over")
	}
	return rsa.VerifyPKCS1v15(a.key, crypto.SHA256, sum[:], signature)
}

// permit answers who may not do what needs a permission, "checks:write". "user"
// is for people's tokens only, "app" for the App itself.
func (g *GitHub) permit(w http.ResponseWriter, r *http.Request, needs string) bool {
	name, level, _ := strings.Cut(needs, ":")
	switch given := g.actor.token; {
	case g.actor.self && needs != "app":
		g.undocumented(w, r, "a JWT is for the App's own endpoints")
	case !g.actor.self && needs == "app":
		problem(w, http.StatusUnauthorized, "A JSON web token could not be decoded")
	case given == nil && needs == "checks:write":
		problem(w, http.StatusForbidden, "You must authenticate via a GitHub App.")
	case given == nil:
		return true
	case given.owner != r.PathValue("owner") || given.repos != nil && !slices.Contains(given.repos, r.PathValue("repo")):
		problem(w, http.StatusNotFound, "Not Found")
	case given.permissions[name] != level && given.permissions[name] != "write":
		problem(w, http.StatusForbidden, "Resource not accessible by integration")
	default:
		return true
	}
	return false
}

// getApp is "Get the authenticated app".
func (g *GitHub) getApp(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]any{"id": g.app.id, "slug": AppSlug, "name": "Assay", "permissions": g.app.granted})
}

// getInstallation is "Get a repository installation for the authenticated app".
func (g *GitHub) getInstallation(w http.ResponseWriter, r *http.Request) {
	id := g.app.installed[r.PathValue("owner")+"/"+r.PathValue("repo")]
	if id == 0 {
		problem(w, http.StatusNotFound, "Not Found")
		return
	}
	reply(w, http.StatusOK, map[string]any{"id": id, "app_id": g.app.id, "permissions": g.app.granted})
}

// postToken is "Create an installation access token for an app".
func (g *GitHub) postToken(w http.ResponseWriter, r *http.Request) {
	var given struct {
		Repositories []string          `json:"repositories"`
		Permissions  map[string]string `json:"permissions"`
	}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&given); err != nil {
		g.undocumented(w, r, "the body: "+err.Error())
		return
	}
	id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64)
	owner, on := g.app.repositories(id)
	switch {
	case on == nil:
		problem(w, http.StatusNotFound, "Not Found")
	case slices.ContainsFunc(given.Repositories, func(name string) bool { return !slices.Contains(on, name) }):
		problem(w, http.StatusUnprocessableEntity, "There is at least one repository that does not exist or is not accessible to the parent installation.")
	case !g.app.grants(given.Permissions):
		problem(w, http.StatusUnprocessableEntity, "The permissions requested are not granted to this installation.")
	default:
		g.app.made++
		token, expires := fmt.Sprintf("ghs_forgetest%d", g.app.made), time.Now().Add(g.app.life)
		if given.Permissions == nil {
			given.Permissions = g.app.granted
		}
		g.app.last = installationToken{given.Repositories, owner, given.Permissions, expires}
		g.app.tokens[token] = g.app.last
		reply(w, http.StatusCreated, map[string]any{"token": token, "expires_at": expires.UTC().Format(time.RFC3339), "permissions": given.Permissions})
	}
}

// repositories are those of an installation.
func (a *app) repositories(id int64) (owner string, names []string) {
	for repo, installation := range a.installed {
		if installation == id {
			var name string
			owner, name, _ = strings.Cut(repo, "/")
			names = append(names, name)
		}
	}
	return owner, names
}

// grants tells whether the App has all of these.
func (a *app) grants(wanted map[string]string) bool {
	for name, level := range wanted {
		if a.granted[name] != level && a.granted[name] != "write" {
			return false
		}
	}
	return true
}
