package libvirt

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	lv "github.com/digitalocean/go-libvirt"
)

// monitor speaks to one machine's QEMU (QEMU, docs/interop/qmp-spec.rst) through
// libvirt, for what libvirt has no calls for. Libvirt marks such a domain tainted.
type monitor struct {
	conn   *conn
	domain lv.Domain
}

// command runs one command and reads what it returns into result, which may be nil.
func (m monitor) command(ctx context.Context, name string, arguments, result any) error {
	request, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{name, arguments})
	if err != nil {
		return fmt.Errorf("cannot write QEMU's command %s: %w", name, err)
	}
	var text string
	err = m.conn.do(ctx, func(l *lv.Libvirt) error {
		var err error
		text, err = l.QEMUDomainMonitorCommand(m.domain, string(request), 0)
		return err
	})
	if err != nil {
		return fmt.Errorf("QEMU's command %s: %w", name, err)
	}
	return readReply(name, text, result)
}

// readReply takes a reply apart: either "return" or "error" is there.
func readReply(name, text string, result any) error {
	var reply struct {
		Return json.RawMessage `json:"return"`
		Error  *struct {
			Desc string `json:"desc"`
		} `json:"error"`
	}
	if err := json.Unmarshal([]byte(text), &reply); err != nil {
		return fmt.Errorf("QEMU's command %s: cannot read the reply: %w", name, err)
	}
	if reply.Error != nil {
		return fmt.Errorf("QEMU's command %s: %s", name, reply.Error.Desc)
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(reply.Return, result); err != nil {
		return fmt.Errorf("QEMU's command %s: cannot read the reply: %w", name, err)
	}
	return nil
}

// shareMemory makes QEMU leave memory out of a state, because it is in a file
// that both sides have (QEMU, qapi/migration.json, MigrationCapability).
func (m monitor) shareMemory(ctx context.Context) error {
	return m.command(ctx, "migrate-set-capabilities", map[string]any{
		"capabilities": []map[string]any{{"capability": "x-ignore-shared", "state": true}},
	}, nil)
}

// until asks for a status, every few milliseconds, until done says so or refuses.
func (m monitor) until(ctx context.Context, command string, done func(status string) (bool, error)) error {
	for {
		var reply struct {
			Status string `json:"status"`
			Why    string `json:"error-desc"`
		}
		if err := m.command(ctx, command, nil, &reply); err != nil {
			return err
		}
		if ok, err := done(reply.Status); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("QEMU is still %q: %w", reply.Status, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}
