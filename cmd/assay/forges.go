package main

import (
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/dispatch"
	"github.com/assay-ci/assay/forge"
	"github.com/assay-ci/assay/repo"
	"github.com/assay-ci/assay/webhook"
)

// newForges is where statuses go, by address.
func newForges(cfg config.Config, cache *repo.Cache) (forge.Set, error) {
	set := forge.Set{Hosts: map[string]forge.Forge{}, Notes: forge.Notes{Editor: cache}}
	if err := addGitHub(set, cfg.Forges.GitHub); err != nil {
		return set, err
	}
	for _, kind := range []struct {
		hosts []config.Host
		open  func(config.Host) (forge.Forge, error)
	}{
		{cfg.Forges.Gitea, func(h config.Host) (forge.Forge, error) {
			return forge.NewGitea(forge.GiteaOptions{BaseURL: h.URL, TokenFile: h.TokenFile})
		}},
		{cfg.Forges.GitLab, func(h config.Host) (forge.Forge, error) {
			return forge.NewGitLab(forge.GitLabOptions{BaseURL: h.URL, TokenFile: h.TokenFile})
		}},
		{cfg.Forges.Pagure, func(h config.Host) (forge.Forge, error) {
			return forge.NewPagure(forge.PagureOptions{BaseURL: h.URL, TokenFile: h.TokenFile})
		}},
	} {
		for _, h := range kind.hosts {
			f, err := kind.open(h)
			if err != nil {
				return set, err
			}
			if err := addHost(set, h.URL, f); err != nil {
				return set, err
			}
		}
	}
	return set, nil
}

// addHost has a forge serve the repositories on its host.
func addHost(set forge.Set, address string, f forge.Forge) error {
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("cannot read %q as the address of a forge: %w", address, err)
	}
	host := strings.ToLower(u.Hostname())
	if set.Hosts[host] != nil {
		return fmt.Errorf("cannot use two forges for %s: write one of them under forges", host)
	}
	set.Hosts[host] = f
	return nil
}

func addGitHub(set forge.Set, gh config.GitHub) error {
	o := forge.GitHubOptions{BaseURL: gh.API}
	switch {
	case gh.App.ID != 0:
		o.App = &forge.GitHubApp{ID: gh.App.ID, KeyFile: gh.App.KeyFile}
	case gh.TokenFile == "":
		return nil
	default:
		if _, err := os.ReadFile(gh.TokenFile); err != nil {
			return fmt.Errorf("cannot read the GitHub token: %w: make it readable for the user that runs assay", err)
		}
		o.TokenFile = gh.TokenFile
	}
	hub, err := forge.NewGitHub(o)
	if err != nil {
		return err
	}
	for _, host := range gh.Hosts {
		set.Hosts[strings.ToLower(host)] = hub
	}
	return nil
}

// askers finds the forge that can be asked about a repository.
func askers(forges forge.Set) func(address string) dispatch.Asker {
	return func(address string) dispatch.Asker {
		f, err := forges.For(address)
		if err != nil {
			return nil
		}
		asker, _ := f.(dispatch.Asker)
		return asker
	}
}

// newSources are those whose deliveries are taken.
func newSources(keys webhook.Keys) map[string]webhook.Source {
	return map[string]webhook.Source{
		"github": webhook.NewGitHub(keys), "gitea": webhook.NewGitea(keys), "forgejo": webhook.NewForgejo(keys),
		"gitlab": webhook.NewGitLab(keys), "pagure": webhook.NewPagure(keys),
		"build": webhook.NewBuild(keys), "cloudevents": webhook.NewCloudEvents(keys), "git": webhook.NewGit(keys),
	}
}

// webhookKeys are the secrets that the configuration names.
func webhookKeys(cfg config.Config, address string) (webhook.Keys, error) {
	var keys webhook.Keys
	var err error
	if keys.Secrets, err = cfg.Secrets(); err != nil {
		return keys, err
	}
	for _, s := range cfg.Webhook.Scoped {
		secrets, err := config.ReadSecrets(s.SecretFiles)
		if err != nil {
			return keys, err
		}
		for _, secret := range secrets {
			keys.Scoped = append(keys.Scoped, webhook.ScopedSecret{Repo: s.Repository, Secret: secret})
		}
	}
	if cfg.Webhook.Unsigned && len(keys.Secrets)+len(keys.Scoped) == 0 {
		keys.Unsigned, err = webhook.AllowUnsigned(address)
	}
	return keys, err
}
