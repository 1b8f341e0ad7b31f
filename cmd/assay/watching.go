package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/dispatch"
	"github.com/assay-ci/assay/forge"
	"github.com/assay-ci/assay/repo"
	"github.com/assay-ci/assay/results"
	"github.com/assay-ci/assay/watch"
	"github.com/assay-ci/assay/webhook"
)

// watching finds what never arrived.
func (s *server) watching() (*watch.Watch, error) {
	hooks, err := s.hooks()
	if err != nil {
		return nil, err
	}
	return watch.New(watch.Options{
		Targets: targets(s.cfg), Hooks: hooks,
		Repositories: repo.NewLister(repo.DefaultLimits()),
		Memory:       s.store, Inbox: s.store, Events: s.store,
		Intake:  recovered{s.sources, s.store},
		Meaning: watch.PushMeaning,
		Found: func(source string, origin assay.Origin) {
			s.metrics.found(source, origin)
			s.planWake.Wake()
		},
		Log: s.log,
	}), nil
}

// targets are the repositories whose branches are looked at: often where that was
// asked for, now and then where a forge tells of pushes, as a net below it. An entry
// with a * stands for repositories that nobody has named.
func targets(cfg config.Config) []watch.Target {
	var list []watch.Target
	seen := map[string]bool{}
	for _, p := range cfg.Packages {
		for _, address := range []string{p.Checks, p.Source} {
			source := sourceOf(cfg, address)
			if address == "" || strings.Contains(address, "*") || seen[address] || source == "" && p.Watch == 0 {
				continue
			}
			seen[address] = true
			t := watch.Target{Address: address, Repo: address, Interval: p.Watch}
			if source != "" {
				t.Repo, t.Source, t.Webhook = dispatch.Canonical(address), source, p.Watch == 0
			}
			list = append(list, t)
		}
	}
	return list
}

// sourceOf is the source of the deliveries about a repository on a web forge; ""
// for any other.
func sourceOf(cfg config.Config, address string) string {
	host := hostOf(address)
	if f := cfg.Forges.GitHub; f.TokenFile != "" || f.App.ID != 0 {
		for _, h := range f.Hosts {
			if strings.EqualFold(h, host) {
				return "github"
			}
		}
	}
	for source, hosts := range map[string][]config.Host{"gitea": cfg.Forges.Gitea, "gitlab": cfg.Forges.GitLab, "pagure": cfg.Forges.Pagure} {
		for _, h := range hosts {
			if hostOf(h.URL) == host {
				return source
			}
		}
	}
	return ""
}

// hooks are the webhooks whose deliveries the forge remembers. Without an address
// that others reach, no forge delivers to us.
func (s *server) hooks() ([]watch.Hook, error) {
	if s.cfg.URL == "" {
		return nil, nil
	}
	var list []watch.Hook
	github := s.cfg.Forges.GitHub
	if github.App.ID != 0 {
		log, err := forge.NewGitHubAppDeliveries(forge.GitHubOptions{BaseURL: github.API}, github.App.ID, github.App.KeyFile)
		if err != nil {
			return nil, err
		}
		list = append(list, watch.Hook{Name: fmt.Sprintf("app %d", github.App.ID), Source: "github", Host: hostOf(github.API), Forge: deliveries{log}})
	}
	for _, t := range targets(s.cfg) {
		log, host, err := s.deliveriesOf(t)
		if err != nil {
			return nil, err
		}
		if log != nil {
			list = append(list, watch.Hook{Name: t.Repo, Source: t.Source, Host: host, Forge: deliveries{log}})
		}
	}
	return list, nil
}

// deliveriesOf is the log of a repository's own webhook, nil where there is none.
func (s *server) deliveriesOf(t watch.Target) (log forge.DeliveryLog, host string, err error) {
	receiver := s.url + "/hooks/" + t.Source
	switch github := s.cfg.Forges.GitHub; {
	case t.Source == "github" && github.TokenFile != "":
		all, err := forge.NewGitHubDeliveries(forge.GitHubOptions{TokenFile: github.TokenFile, BaseURL: github.API})
		if err != nil {
			return nil, "", err
		}
		log, err = all.Of(t.Address, 0, receiver)
		return log, hostOf(github.API), err
	case t.Source == "gitlab":
		for _, h := range s.cfg.Forges.GitLab {
			if !strings.HasPrefix(t.Repo, dispatch.Canonical(h.URL)+"/") {
				continue
			}
			all, err := forge.NewGitLabDeliveries(forge.GitLabOptions{BaseURL: h.URL, TokenFile: h.TokenFile})
			if err != nil {
				return nil, "", err
			}
			log, err = all.Of(t.Address, 0, receiver)
			return log, hostOf(h.URL), err
		}
	}
	return nil, "", nil
}

// hostOf is the host of an address, without a port and in lower case.
func hostOf(address string) string {
	host, _, _ := strings.Cut(dispatch.Canonical(address), "/")
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(host)
}

// deliveries is a forge.DeliveryLog as watch wants it.
type deliveries struct{ forge.DeliveryLog }

func (d deliveries) List(ctx context.Context, page string) ([]watch.Delivery, string, error) {
	batch, older, err := d.DeliveryLog.List(ctx, page)
	list := make([]watch.Delivery, len(batch))
	for i, one := range batch {
		list[i] = watch.Delivery(one)
	}
	return list, older, later(err)
}

func (d deliveries) Fetch(ctx context.Context, one watch.Delivery) (http.Header, []byte, error) {
	header, body, err := d.DeliveryLog.Fetch(ctx, forge.Delivery(one))
	return header, body, later(err)
}

func (d deliveries) Redeliver(ctx context.Context, one watch.Delivery) error {
	return later(d.DeliveryLog.Redeliver(ctx, forge.Delivery(one)))
}

// later says in watch's words when a forge wants to be left alone.
func later(err error) error {
	var retry *forge.RetryError
	if errors.As(err, &retry) && retry.After > 0 {
		return &watch.LaterError{After: retry.After, Err: err}
	}
	return err
}

// recovered takes a delivery that was read from the forge's own API.
type recovered struct {
	sources map[string]webhook.Source
	store   *results.Store
}

func (r recovered) Take(ctx context.Context, source string, header http.Header, body []byte) (fresh bool, err error) {
	from, ok := r.sources[source]
	if !ok {
		return false, fmt.Errorf("%w: there is no source %q", watch.ErrRefused, source)
	}
	events, err := from.Decode(header, body)
	if err != nil {
		return false, fmt.Errorf("%w: %v", watch.ErrRefused, err)
	}
	for _, e := range events {
		if e.Kind == assay.EventPing {
			continue
		}
		e.Source, e.Received, e.Origin = source, time.Now().UTC(), assay.OriginRecovered
		if e.ID == "" {
			e.ID = uuid.Must(uuid.NewV7()).String()
		}
		_, one, err := r.store.AddEvent(ctx, e, webhook.Keep(header), body)
		if err != nil {
			return false, err
		}
		fresh = fresh || one
	}
	return fresh, nil
}
