package forge

import "fmt"

// Set knows every configured forge.
type Set struct {
	// Hosts are web forges by the host of the addresses they serve, in lower
	// case: "github.com".
	Hosts map[string]Forge
	// Notes serves everything else: other hosts, and paths. nil for none.
	Notes Forge
}

// For returns the forge that a repository's address belongs to.
func (s Set) For(address string) (Forge, error) {
	host, _, err := splitAddress(address)
	if err != nil {
		return nil, err
	}
	if forge := s.Hosts[host]; host != "" && forge != nil {
		return forge, nil
	}
	if host == "github.com" {
		return nil, fmt.Errorf("cannot report on %s: there is no token for github.com: configure one", show(address))
	}
	if s.Notes == nil {
		return nil, fmt.Errorf("cannot report on %s: no forge is configured for it: configure its host, or git notes", show(address))
	}
	return s.Notes, nil
}
