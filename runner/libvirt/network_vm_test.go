package libvirt

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/usernet"
)

// TestNetwork has machines with a network, fresh and after a wait. That they
// reach what they may is for the tests of package usernet, which can say where a
// connection ends: here every address that this test could serve is the host's,
// and so refused.
func TestNetwork(t *testing.T) {
	t.Parallel()
	options := optionsIn(place(t))
	options.Waiting = 1
	options.PrivateNetworks = ownNetworks(t) // which does not open the host itself
	m := openMachines(t, options)
	for _, kind := range []string{"fresh", "waiting"} {
		t.Run("a "+kind+" fork", func(t *testing.T) {
			if kind == "waiting" {
				awaitIdle(t, m)
			}
			var log told
			one, err := m.Boot(t.Context(), runner.Spec{Execution: kind, Network: networkFull, Tell: log.tell})
			if err != nil {
				t.Fatalf("%v\n%s", err, &log)
			}
			defer one.Close()
			isUp(t, one)
			keptFromHost(t, one, &log)
			resolves(t, one)
		})
	}
	if s := m.Stats(); s.Fresh != 1 || s.Waiting != 1 || s.Fallbacks != 0 {
		t.Errorf("counted: %+v", s)
	}
}

// isUp looks at a network that nobody has set up since the machine was handed out.
func isUp(t *testing.T, one runner.Machine) {
	t.Helper()
	const script = `ip -4 -o address show scope global | grep -o 'inet [^ ]*'
ip route | grep -o '^default via [^ ]*'
cat /etc/resolv.conf`
	want := "inet " + usernet.GuestAddress + "\ndefault via " + usernet.GatewayAddress + "\nnameserver " + usernet.GatewayAddress
	if got := output(t, one, script); got != want {
		t.Errorf("the network is\n%s\nnot\n%s", got, want)
	}
}

// ownNetworks are the networks that this host's interfaces are in.
func ownNetworks(t *testing.T) []netip.Prefix {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	var list []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			list = append(list, p)
		}
	}
	return list
}

// trap listens on every address of this host until the test ends. A connection
// there fails the test.
func trap(t *testing.T) (port uint16) {
	t.Helper()
	listener, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	var ended sync.WaitGroup
	ended.Go(func() {
		if conn, err := listener.Accept(); err == nil {
			t.Errorf("the guest reached this host as %v", conn.LocalAddr())
			_ = conn.Close()
		}
	})
	t.Cleanup(func() { _ = listener.Close(); ended.Wait() })
	return listener.Addr().(*net.TCPAddr).AddrPort().Port()
}

// keptFromHost tries the host in all its forms, and what clouds tell a host.
func keptFromHost(t *testing.T, one runner.Machine, log *told) {
	t.Helper()
	port := trap(t)
	reasons := map[string]string{
		usernet.GatewayAddress: "the machine's own network has no such service",
		"169.254.169.254":      "it is a cloud's metadata service",
	}
	for _, own := range ownNetworks(t) {
		reasons[own.Addr().String()] = "it is one of the host's own addresses"
	}
	for to, reason := range reasons {
		got := output(t, one, fmt.Sprintf(`python3 -c 'import socket; socket.create_connection(("%s", %d), 60)' 2>&1 | tail -1`, to, port))
		if !strings.HasPrefix(got, "ConnectionRefusedError") {
			t.Errorf("a connection to %s ended with %q", to, got)
		}
		if at := fmt.Sprintf("%s:%d", to, port); !log.has("network: a connection to "+at+" (tcp) was refused", reason) {
			t.Errorf("the log does not tell that %s was refused because %s:\n%s", at, reason, log)
		}
	}
}

// askScript sends one question for an IPv4 address to the machine's name server,
// and prints how the answer says that it went, and the last address in it.
const askScript = `
import socket, sys
query = bytes.fromhex("000701000001000000000000")
for part in sys.argv[2].split("."): query += bytes([len(part)]) + part.encode()
query += bytes.fromhex("0000010001")
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(60)
s.sendto(query, (sys.argv[1], 53))
reply = s.recv(2000)
print(reply[3] & 15, socket.inet_ntoa(reply[-4:]) if reply[7] else "none")
`

// resolves compares what the guest is told of names with what this host knows of
// them, which for some may be that nobody answers.
func resolves(t *testing.T, one runner.Machine) {
	t.Helper()
	for _, name := range []string{"localhost", "no-such-host.invalid"} {
		want := "0 "
		found, err := (&net.Resolver{PreferGo: true}).LookupNetIP(t.Context(), "ip4", name+".")
		var missing *net.DNSError
		switch {
		case errors.As(err, &missing) && missing.IsNotFound:
			want = "3 none"
		case err != nil:
			want = "2 none"
		default:
			want += found[len(found)-1].String()
		}
		if got := ask(t, one, name); got != want {
			t.Errorf("the guest is told %q of %s, want %q: this host has %v, %v", got, name, want, found, err)
		}
	}
}

func ask(t *testing.T, one runner.Machine, name string) string {
	t.Helper()
	var out strings.Builder
	argv := []string{"python3", "-c", askScript, usernet.GatewayAddress, name}
	if exit, err := one.Run(t.Context(), runner.Command{Argv: argv, Dir: "/", Stdout: &out, Stderr: &out}); exit != 0 || err != nil {
		t.Errorf("asking for %s: exit %d, %v: %s", name, exit, err, out.String())
	}
	return strings.TrimSpace(out.String())
}
