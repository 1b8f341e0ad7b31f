// Package webhook takes events in over HTTP: POST /hooks/SOURCE.
//
// A delivery is limited, verified, decoded, deduplicated and stored, in that
// order, and only then acknowledged. The same delivery twice is one event.
//
// # Sources
//
// Each source is one file; what several have in common, comments for one, is a
// file of its own.
//
//	source       file            deliveries of
//	github       github*.go      github.com and GitHub Enterprise Server: webhooks and apps
//	gitea        gitea.go        Gitea (NewGitea)
//	forgejo      gitea.go        Forgejo (NewForgejo); the same but for which headers come first
//	gitlab       gitlab.go       GitLab: project and group webhooks
//	pagure       pagure.go       Pagure
//	build        build.go        any build system: the build event, below
//	cloudevents  cloudevents.go  any build system: the same in a CloudEvent
//	git          git.go          Assay's own post-receive hook
//
// # Headers
//
// They say what a delivery is and vouch for it. A header in brackets is looked
// at only when the one before it is missing. HMACs are HMAC-SHA-256 over the raw
// body, in hexadecimal but where it says otherwise.
//
//	source       event                          delivery                                  proof
//	github       X-GitHub-Event                 X-GitHub-Delivery                         X-Hub-Signature-256: sha256=HMAC
//	gitea        X-Gitea-Event                  X-Gitea-Delivery                          X-Gitea-Signature: HMAC
//	             [X-Forgejo-Event]              [X-Forgejo-Delivery]                      [X-Forgejo-Signature: HMAC]
//	             [X-Gitea-Event-Type]                                                     [X-Hub-Signature-256: sha256=HMAC]
//	forgejo      as gitea, X-Forgejo-… first
//	gitlab       X-Gitlab-Event, object_kind    Webhook-Id [Idempotency-Key]              Webhook-Signature of a signing token, or
//	                                            [X-Gitlab-Event-UUID]                     X-Gitlab-Token: the secret itself
//	pagure       topic in the body              msg_id in the body                        X-Pagure-Signature-256: HMAC
//	build, git   (the source's name)            X-Assay-Delivery                          X-Assay-Signature-256: sha256=HMAC
//	cloudevents  type                           source and id                             X-Assay-Signature-256: sha256=HMAC
//
// Gitea and Forgejo sign the JSON also when a form carries it, GitHub the form.
// They send X-GitHub-… and X-Gogs-… beside their own headers: nothing but the
// signature is taken from those, and the source github refuses a delivery that
// has X-Gitea-Event, X-Forgejo-Event or X-Gogs-Event, because much of it would
// read like GitHub's and mean something else.
//
// # What becomes of a forge's events
//
// Every delivery that can be read is stored. Those that start nothing say why,
// in Event.Ignored; so do those that nobody has heard of: a forge adds events
// and actions as it likes, and none of them is an error. What counts is refused
// when a field that decides is missing or unsound.
//
//	push          a branch moved        github: push; gitea: push; gitlab: Push Hook; pagure: git.receive, git.branch.creation
//	pull_request  commits to check      github: opened, reopened, synchronize, ready_for_review, edited with another base branch
//	                                    gitea: opened, reopened, synchronized, edited with another base branch
//	                                    gitlab: open, reopen, update with oldrev
//	                                    pagure: pull-request.new, .updated, .rebased, .reopened
//	comment       somebody's command    github: issue_comment and pull_request_review_comment, created
//	                                    gitea: issue_comment, created (is_pull); gitlab: Note Hook on a MergeRequest
//	                                    pagure: pull-request.comment.added
//	rerun         "Re-run" was clicked  github: check_run and check_suite, rerequested
//	ping          nothing; not stored   github: ping
//
//	ignored       a deleted ref (which GitHub and Gitea tell twice: as delete, and as a push to zeros), tags, other refs;
//	              Gitea's "Test delivery", a push from a commit to itself; create, release, fork, repository, wiki, package,
//	              issues; labels, reviews, merging and closing; statuses and flags, always, since those that Assay sets come
//	              back this way; the forge's own workflows, jobs and pipelines; an app's installation; check runs and suites
//	              that are created or completed, and their buttons (requested_action), of which Assay has none
//
// An ignored event keeps what it says of repository, ref, commit and author. Its
// Kind is the forge's name for it ("issues"), but for comments.
//
// A comment counts when it is new, on an open pull request, written by a person,
// and has a line that begins with "/assay". A comment that was edited or deleted
// is ignored, and so are those of bots and Assay's own (which begin with
// "<!-- assay:"). Comment.ID is what a reaction needs: of GitHub "issue:123" or
// "review:456", which are counted apart; of Gitea and Forgejo "issue:123"; of
// GitLab and Pagure the number. Commit is "" where the forge does not say it: of
// GitHub's issue_comment, and of older Giteas. It is what was to be seen when the
// comment was written where the forge does.
//
// A rerun's Context is the check run's external_id, which Assay sets to the
// status's context, or else its name; it is "" for a suite. GitHub sends
// rerequested to the app that made the check and to no other webhook, so that
// nothing here has to know which app is ours: give an app's webhook to Assay only
// if it is Assay's app. PullRequest is set when GitHub lists one of this
// repository with this head; of forks it lists none.
//
// # Trust and authors
//
// Event.Trusted is what the payload proves; whoever acts asks the forge about
// everybody else, by Event.Author. A push and a build are trusted. Of the others:
//
//	             pull_request                            comment                        rerun
//	github       head in the repository itself, or       author_association as          never
//	             author_association OWNER, MEMBER or     for pull_request
//	             COLLABORATOR
//	gitea        head branch in the repository itself    never
//	gitlab       source project is the target project    never
//	pagure       from the project itself                 never
//
// A pull request to Gitea that was made by pushing to refs/for/BRANCH (AGit)
// names the repository itself as its head, though anyone who can read may make
// it: it is not trusted. Author is who opened a pull request, never who pushed to
// it or opened it again, and "" when the account is gone; of all else it is who
// did it.
//
// # Answers
//
//	202  {"event": ID, "url": PAGE, "fresh": BOOL}  it is on disk; fresh is false for one we had
//	202  … "ignored": REASON                         it is on disk, and nothing will be done about it
//	200  {"pong": true}                              a forge said hello
//	400  the body is not what the source documents   401  the signature is missing, old, or does not fit
//	404  no such source                              405  not a POST
//	408  the body came too slowly                    413  the body is larger than the limit, as sent or unpacked
//	415  not JSON, or packed by other than gzip      429  too many from this address (Retry-After)
//	503  not stored: send it again (Retry-After)
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
