package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/forge/forgetest"
	"github.com/assay-ci/assay/webhook"
)

// chaos is a forge that sends the same news over and over, and answers as it
// likes, around a server that is killed at any moment.
type chaos struct {
	*site
	hub    *forgetest.GitHub
	git    string            // where the repositories are served
	want   map[string]string // final state by commit
	events []chaosEvent
	url    atomic.Pointer[string] // where the server is now
	config string
	random *rand.Rand
	kills  int
}

type chaosEvent struct {
	delivery string
	body     []byte
}

// newChaos makes so many commits, each on a branch of its own and each good or
// bad, and several deliveries about each of them.
func newChaos(t *testing.T, commits int) *chaos {
	c := &chaos{hub: forgetest.NewGitHub(t), want: map[string]string{}, random: rand.New(rand.NewPCG(1, 2))}
	c.site = newSite(t, func(cfg *config.Config) {
		cfg.Forges.GitHub = config.GitHub{TokenFile: c.hub.TokenFile, API: c.hub.URL, Hosts: []string{"127.0.0.1"}}
	})
	c.git = overHTTP(t, c.dir).URL
	c.commit("checks/hello", "main", map[string]string{"c/runtask.yml": formula("c", "grep -q good ${sources}/hello")})
	var shas []string
	for i := range commits {
		state, word := "success", "good"
		if i%3 == 0 {
			state, word = "failure", "bad"
		}
		sha := c.plant(fmt.Sprintf("b%d", i), fmt.Sprintf("%s %d\n", word, i))
		c.want[sha], shas = state, append(shas, sha)
		c.tell(i, sha)
	}
	c.hub.AddRepo("rpms/hello", shas...)
	c.random.Shuffle(len(c.events), func(i, j int) { c.events[i], c.events[j] = c.events[j], c.events[i] })
	c.configure()
	return c
}

// plant makes a commit that holds the file hello, on a new branch.
func (c *chaos) plant(branch, content string) string {
	c.t.Helper()
	bare := c.bare("rpms/hello")
	c.write(c.dir+"/content", content)
	blob := c.site.git(bare, "hash-object", "-w", c.dir+"/content")
	c.write(c.dir+"/tree", "100644 blob "+blob+"\thello\n")
	tree := c.site.git(c.dir, "-C", bare, "-c", "alias.plant=!git mktree < "+c.dir+"/tree", "plant")
	sha := c.site.git(bare, "commit-tree", "-m", branch, tree)
	c.site.git(bare, "update-ref", "refs/heads/"+branch, sha)
	return sha
}

// tell adds the deliveries about one commit: the same one twice, and the same news
// under three more ids.
func (c *chaos) tell(i int, sha string) {
	body, err := json.Marshal(map[string]any{
		"ref": fmt.Sprintf("refs/heads/b%d", i), "before": strings.Repeat("0", 40), "after": sha,
		"repository": map[string]any{"full_name": "rpms/hello", "clone_url": c.git + "/rpms/hello.git"},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, n := range []int{0, 0, 1, 2, 3} {
		c.events = append(c.events, chaosEvent{fmt.Sprintf("chaos-%d-%d", i, n), body})
	}
}

// configure writes the server's configuration. Its address is one that stays, as
// an operator's does, though it listens elsewhere after each start: a status with
// another address is another status.
func (c *chaos) configure() {
	c.config = c.dir + "/chaos.yml"
	c.write(c.config, fmt.Sprintf(`listen: 127.0.0.1:0
url: http://assay.example
data: %s
webhook: {secret_files: [webhook.secret]}
forges: {github: {token_file: %s, api: %s, hosts: [127.0.0.1]}}
packages: [{name: rpms/*, checks: %s/checks/*.git, source: %s/rpms/*.git}]
machines: {kind: local, count: 4}
`, c.cfg.Data, c.hub.TokenFile, c.hub.URL, c.dir, c.git))
}

// send delivers until it is acknowledged, as somebody does who looks after a forge.
func (c *chaos) send(ctx context.Context, e chaosEvent) error {
	for {
		status, err := c.try(ctx, e)
		if err == nil && status == http.StatusAccepted {
			return nil
		}
		if err == nil && status != http.StatusServiceUnavailable {
			return fmt.Errorf("delivery %s was answered with %d", e.delivery, status)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond): // the server is being started
		}
	}
}

func (c *chaos) try(ctx context.Context, e chaosEvent) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, *c.url.Load()+"/hooks/github", bytes.NewReader(e.body))
	if err != nil {
		return 0, err
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "X-GitHub-Event": "push", "X-GitHub-Delivery": e.delivery,
		"X-Hub-Signature-256": webhook.Sign(c.secret, e.body),
	} {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, firstOf(err, resp.Body.Close())
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// misbehave is the forge's next mood.
func (c *chaos) misbehave() {
	faults := []forgetest.Fault{
		forgetest.Reset(), forgetest.LostAnswer(), forgetest.ServerError(502), forgetest.ServerError(500),
		forgetest.TooMany("1"), forgetest.TooMany(""), forgetest.RateLimit(time.Now().Add(time.Second)),
	}
	c.hub.Misbehave(faults[c.random.IntN(len(faults))])
}

// serve starts the server, wherever there is a free port.
func (c *chaos) serve() *program {
	p := c.startProgram(c.config)
	c.url.Store(&p.url)
	return p
}

// run sends everything, with a killer about who strikes so often or more, and lets
// the server end in peace.
func (c *chaos) run(ctx context.Context, kills int) {
	p := c.serve()
	var sent atomic.Int64
	var senders sync.WaitGroup
	next := make(chan chaosEvent, len(c.events))
	for _, e := range c.events {
		next <- e
	}
	close(next)
	for range 8 {
		senders.Go(func() {
			for e := range next {
				if err := c.send(ctx, e); err != nil {
					c.t.Error(err)
				}
				sent.Add(1)
			}
		})
	}
	all := make(chan struct{})
	go func() { senders.Wait(); close(all) }()
	done := (<-chan struct{})(all)
	for over := false; !over || c.kills < kills; {
		c.misbehave()
		select {
		case <-done:
			over, done = true, nil
			continue
		case <-ctx.Done():
			c.t.Fatalf("%d of %d deliveries were taken", sent.Load(), len(c.events))
		case <-time.After(time.Duration(100+c.random.IntN(1900)) * time.Millisecond): // the killer's own time
		}
		p.end(syscall.SIGKILL)
		c.kills++
		p = c.serve()
	}
	c.misbehave()
	c.settle(ctx)
}

// settle waits until everything is as it should be, or for so long as no delay
// between two tries of a report is: what is wrong by then stays wrong.
func (c *chaos) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 6*time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for len(c.wrong()) > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// wrong lists what is not as it should be on the forge.
func (c *chaos) wrong() []string {
	var wrong []string
	for sha, want := range c.want {
		got, said := map[string][]string{}, map[string][]string{}
		for _, s := range c.hub.Statuses("rpms/hello", sha) {
			got[s.Context] = append(got[s.Context], string(s.State))
			said[s.Context] = append(said[s.Context], s.Description)
		}
		for _, context := range []string{"assay", "assay/c"} {
			states := got[context]
			ends := len(states) > 0 && states[len(states)-1] == want
			if n := strings.Count(strings.Join(states, " "), want); !ends || n != 1 || len(states) > 2 {
				wrong = append(wrong, fmt.Sprintf("%.10s: %s went through %v, want one %s as the last: %q", sha, context, states, want, said[context]))
			}
		}
		comments := c.hub.Comments(assay.Commit{Repo: c.git + "/rpms/hello.git", SHA: sha})
		if n := len(comments); n > 1 || (n == 1) != (want == "failure") {
			wrong = append(wrong, fmt.Sprintf("%.10s: %d comments, and %s", sha, n, want))
		}
	}
	return wrong
}

// TestChaos has every commit end with exactly the right final statuses and one
// comment where there is bad news.
func TestChaos(t *testing.T) { testChaos(t, 40, 8) }

func testChaos(t *testing.T, commits, kills int) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	c := newChaos(t, commits)
	c.run(ctx, kills)
	wrong := c.wrong()
	for _, w := range wrong[:min(len(wrong), 20)] {
		t.Error(w)
	}
	t.Logf("%d deliveries about %d commits, the server killed %d times: %d things are wrong", len(c.events), commits, c.kills, len(wrong))
}
