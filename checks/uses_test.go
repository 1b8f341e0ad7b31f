package checks

import "testing"

func TestUses(t *testing.T) {
	f, err := Parse("f.yml", []byte("name: c\ndesc: d\nmaintainer: m\nactions:\n  - name: a\n    shell:\n      - ls ${sources} $HOME\n      - [cp, \"${builds}\", x]\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"sources": true, "builds": true, "workdir": false, "HOME": false} {
		if got := f.Uses(name); got != want {
			t.Errorf("uses %s: %v", name, got)
		}
	}
}
