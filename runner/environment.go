package runner

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Environment is what a check needs installed before it begins. It is part of a
// machine's template: installed once, not in every machine.
type Environment struct {
	RPM   []string `json:"rpm,omitempty"`   // packages for dnf; left out in machines with apt
	Deb   []string `json:"deb,omitempty"`   // packages for apt; left out in machines with dnf
	Pip   []string `json:"pip,omitempty"`   // packages for pip
	Setup []string `json:"setup,omitempty"` // commands for /bin/sh, run in order
}

// Empty tells that nothing needs to be done.
func (e Environment) Empty() bool {
	return len(e.RPM)+len(e.Deb)+len(e.Pip)+len(e.Setup) == 0
}

// Encode is equal for environments that install the same: in packages neither
// order nor repetition counts, in commands both do. It is part of what a
// template is known by.
func (e Environment) Encode() []byte {
	for _, list := range []*[]string{&e.RPM, &e.Deb, &e.Pip} {
		*list = slices.Compact(slices.Sorted(slices.Values(*list)))
	}
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Appendf(nil, "%q", e) // lists of texts can always be written
	}
	return text
}

// maxPackages bounds the names of one kind of package, in bytes: they become one
// command line.
const maxPackages = 64 << 10

// check refuses what a package manager would take for something else than a
// package. The formula's reader refuses more, and says where it stands.
func (e Environment) check() error {
	for kind, names := range map[string][]string{"rpm": e.RPM, "deb": e.Deb, "pip": e.Pip} {
		size := 0
		for _, name := range names {
			size += len(name) + 1
			if name == "" || name[0] == '-' || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				return fmt.Errorf("cannot install %.60q: that is no name of a package for %s", name, kind)
			}
		}
		if size > maxPackages {
			return fmt.Errorf("cannot install %d packages for %s at once: their names have more than %d KiB", len(names), kind, maxPackages>>10)
		}
	}
	for _, command := range e.Setup {
		if len(command) > maxPackages || strings.IndexByte(command, 0) >= 0 {
			return fmt.Errorf("cannot run the set-up command %.60q: it has a zero byte, or more than %d KiB", command, maxPackages>>10)
		}
	}
	return nil
}
