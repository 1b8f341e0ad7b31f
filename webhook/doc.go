// Package webhook takes events in over HTTP: POST /hooks/SOURCE.
//
// A delivery is limited, verified, decoded, deduplicated and stored, in that
// order, and only then acknowledged. The same delivery twice is one event.
//
// # Sources
//
// Each source is one file: github.go takes GitHub's webhooks, build.go the
// generic build event, git.go what Assay's own post-receive hook sends.
//
// # Answers
//
//	202  {"event": ID, "url": PAGE, "fresh": BOOL}  it is on disk; fresh is false for one we had
//	202  … "ignored": REASON                         it is on disk, and nothing will be done about it
//	200  {"pong": true}                              a forge said hello
//	400  the body is not what the source documents   401  the signature is missing or does not fit
//	404  no such source                              405  not a POST
//	408  the body came too slowly                    413  the body is larger than the limit
//	415  not JSON, or compressed                     503  not stored: send it again (Retry-After)
//
// Every answer but 202 and 200 has a body {"error": REASON}.
//
// # The build event
//
// A build system says that a build is complete with POST /hooks/build and
//
//	Content-Type: application/json
//	X-Assay-Delivery: ID          required: 1 to 128 of A-Z a-z 0-9 . _ : -, the same when it is sent again
//	X-Assay-Signature-256: sha256=HEX   HMAC-SHA-256 of the body's bytes under the shared secret
//
//	{
//	  "package":    "rpms/hello",        NAMESPACE/NAME or NAME
//	  "version":    "1.0",
//	  "release":    "1.fc42",
//	  "commit":     "8ac0…",             of the package's repository: 40 or 64 lower-case hex digits
//	  "build_id":   "2718281",           the build system's own id, 1 to 128 characters as in a delivery's id
//	  "arch":       "x86_64",            optional: without it the build is for all
//	  "repository": "https://…",         optional: the package's repository; http, https, ssh, git or file
//	  "branch":     "f42",               optional: without it the release tells ("1.fc42")
//	  "artifacts":  ["https://…/a.rpm"]  optional: at most 1,000 addresses, http or https, no user name in them
//	}
//
// Names of packages, versions, releases and arches are made of what RPM and
// Debian allow: letters, digits and . _ + ~ ^ - (a version also ":", a release
// no "-"). Unknown keys, keys given twice and nulls are refused by name.
//
// The same build may be sent more than once, under other delivery ids too: build
// events that say the same are one event.
//
// # The git event
//
// Assay's post-receive hook sends one of these for each ref, with the same two
// headers, to POST /hooks/git:
//
//	{
//	  "version":    1,
//	  "delivery":   "0198c5f6-…",        a UUID, the same as in X-Assay-Delivery; becomes the event's ID
//	  "repository": "/srv/git/checks/hello.git",
//	  "ref":        "refs/heads/main",
//	  "before":     "8ac0…",             zeros for a new ref
//	  "after":      "41d5…",             zeros for a deleted one
//	  "time":       "2026-01-31T12:00:00Z"
//	}
package webhook
