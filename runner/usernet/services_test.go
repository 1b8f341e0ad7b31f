package usernet

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

var hardware = net.HardwareAddr(guestMAC)

func nowhere(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("nobody there")
}

func discovery() []byte {
	m, err := dhcpv4.NewDiscovery(hardware)
	if err != nil {
		return nil
	}
	return m.ToBytes()
}

// request is a client's message with some more set.
func request(t *testing.T, options ...dhcpv4.Modifier) []byte {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(hardware)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m.ToBytes()
}

// TestLease takes a lease with hand-made frames, as a machine without an address.
func TestLease(t *testing.T) {
	socket, _ := serve(t, Options{})
	conn := plug(t, socket)
	nobody, everybody := full("0.0.0.0:68"), full("255.255.255.255:67")
	writeRaw(t, conn, datagramFrame(nobody, everybody, header.EthernetBroadcastAddress, discovery()))
	offer := readDHCP(t, conn)
	if offer.MessageType() != dhcpv4.MessageTypeOffer || offer.YourIPAddr.String() != "10.0.2.15" {
		t.Fatalf("got %s", offer.Summary())
	}
	ask, err := dhcpv4.NewRequestFromOffer(offer)
	if err != nil {
		t.Fatal(err)
	}
	writeRaw(t, conn, datagramFrame(nobody, everybody, header.EthernetBroadcastAddress, ask.ToBytes()))
	ack := readDHCP(t, conn)
	got := fmt.Sprint(ack.MessageType(), ack.YourIPAddr, ack.SubnetMask(), ack.Router(), ack.DNS(), ack.IPAddressLeaseTime(0), ack.ServerIdentifier())
	if want := "ACK 10.0.2.15 ffffff00 [10.0.2.2] [10.0.2.2] 12h0m0s 10.0.2.2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if name := ack.DomainName(); name != "" || ack.HostName() != "" {
		t.Errorf("the host's names are told: %q %q", name, ack.HostName())
	}
}

// readDHCP waits for the next message to a client, in a broadcast frame.
func readDHCP(t *testing.T, conn *wire) *dhcpv4.DHCPv4 {
	t.Helper()
	for {
		frame := conn.next(t)
		ip := header.IPv4(frame[header.EthernetMinimumSize:])
		if header.Ethernet(frame).Type() != header.IPv4ProtocolNumber || ip.DestinationAddress() != header.IPv4Broadcast {
			continue
		}
		m, err := dhcpv4.FromBytes(header.UDP(ip.Payload()).Payload())
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
}

func TestDHCPReply(t *testing.T) {
	guest, gateway := net.IP(guestIP.AsSlice()), net.IP(gatewayIP.AsSlice())
	kind := dhcpv4.WithMessageType
	wanting := func(ip string) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(ip)))
	}
	for _, c := range []struct {
		name    string
		message []byte
		want    string // the answer, the address in it and where it goes; "" for none
	}{
		{"discover", discovery(), "OFFER 10.0.2.15 255.255.255.255"},
		{"request", request(t, kind(dhcpv4.MessageTypeRequest), wanting("10.0.2.15")), "ACK 10.0.2.15 255.255.255.255"},
		{"renew", request(t, kind(dhcpv4.MessageTypeRequest), dhcpv4.WithClientIP(guest)), "ACK 10.0.2.15 10.0.2.15"},
		{"inform", request(t, kind(dhcpv4.MessageTypeInform), dhcpv4.WithClientIP(guest)), "ACK 0.0.0.0 10.0.2.15"},
		{"another address", request(t, kind(dhcpv4.MessageTypeRequest), wanting("192.168.1.7")), "NAK 0.0.0.0 255.255.255.255"},
		{"no address", request(t, kind(dhcpv4.MessageTypeRequest)), "NAK 0.0.0.0 255.255.255.255"},
		{"our server", request(t, kind(dhcpv4.MessageTypeRequest), wanting("10.0.2.15"), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(gateway))), "ACK 10.0.2.15 255.255.255.255"},
		{"another server", request(t, kind(dhcpv4.MessageTypeRequest), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(guest))), ""},
		{"release", request(t, kind(dhcpv4.MessageTypeRelease), dhcpv4.WithClientIP(guest)), ""},
		{"an answer", request(t, kind(dhcpv4.MessageTypeOffer), func(m *dhcpv4.DHCPv4) { m.OpCode = dhcpv4.OpcodeBootReply }), ""},
		{"no type", request(t), ""},
		{"other hardware", request(t, kind(dhcpv4.MessageTypeDiscover), func(m *dhcpv4.DHCPv4) { m.HWType = 6 }), ""},
		{"nothing", nil, ""},
		{"garbage", []byte("garbage"), ""},
		{"cut", discovery()[:100], ""},
	} {
		reply, to := dhcpReply(c.message)
		got := ""
		if reply != nil {
			m, err := dhcpv4.FromBytes(reply)
			if err != nil {
				t.Fatal(err)
			}
			got = fmt.Sprint(m.MessageType(), " ", m.YourIPAddr, " ", to)
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func FuzzDHCPReply(f *testing.F) {
	f.Add(discovery())
	f.Add(discovery()[:240])
	f.Add([]byte("garbage"))
	f.Fuzz(func(t *testing.T, message []byte) {
		reply, _ := dhcpReply(message)
		if reply == nil {
			return
		}
		if m, err := dhcpv4.FromBytes(reply); err != nil || len(reply) > mtu-header.IPv4MinimumSize-header.UDPMinimumSize || m.OpCode != dhcpv4.OpcodeBootReply {
			t.Fatalf("answered %d bytes: %v", len(reply), err)
		}
	})
}

// names is a resolver that knows some names; noNames knows none.
type names struct{}

type noNames struct{}

func missing(name string) error {
	return &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (noNames) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return nil, missing(host)
}
func (noNames) LookupAddr(_ context.Context, addr string) ([]string, error) {
	return nil, missing(addr)
}
func (noNames) LookupCNAME(_ context.Context, host string) (string, error) { return "", missing(host) }
func (noNames) LookupMX(_ context.Context, name string) ([]*net.MX, error) { return nil, missing(name) }
func (noNames) LookupTXT(_ context.Context, name string) ([]string, error) { return nil, missing(name) }

func (names) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	switch {
	case network != "ip4":
		return nil, errors.New("asked for " + network)
	case host == "example.test.":
		return []netip.Addr{netip.MustParseAddr("93.184.216.34"), netip.MustParseAddr("::ffff:127.0.0.1")}, nil
	case host == "broken.test.":
		return nil, errors.New("the name server is away")
	case host == "many.test.":
		return manyAddresses(), nil
	}
	return nil, missing(host)
}

func manyAddresses() []netip.Addr {
	var addrs []netip.Addr
	for i := range 1000 {
		addrs = append(addrs, netip.AddrFrom4([4]byte{1, 2, byte(i >> 8), byte(i)}))
	}
	return addrs
}

func (names) LookupAddr(_ context.Context, addr string) ([]string, error) {
	if addr == "93.184.216.34" || addr == "2001:db8::1" {
		return []string{"example.test."}, nil
	}
	return nil, missing(addr)
}

func (names) LookupTXT(context.Context, string) ([]string, error) {
	return []string{"short", strings.Repeat("x", 3000)}, nil
}

func (names) LookupMX(context.Context, string) ([]*net.MX, error) {
	return []*net.MX{{Host: "mail.test.", Pref: 10}, {Host: strings.Repeat("x", 300), Pref: 20}}, errors.New("an odd name")
}

func (names) LookupCNAME(_ context.Context, host string) (string, error) {
	if host == "www.test." {
		return "example.test.", nil
	}
	return host, nil
}

func question(t testing.TB, name string, kind dnsmessage.Type, size int) []byte {
	t.Helper()
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 4711, RecursionDesired: true})
	err := errors.Join(b.StartQuestions(), b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}))
	if size > 0 {
		var h dnsmessage.ResourceHeader
		err = errors.Join(err, b.StartAdditionals(), h.SetEDNS0(size, dnsmessage.RCodeSuccess, false), b.OPTResource(h, dnsmessage.OPTResource{}))
	}
	query, failed := b.Finish()
	if err := errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	return query
}

// told is an answer in few words.
func told(t testing.TB, reply []byte) string {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(reply); err != nil {
		t.Fatal(err)
	}
	if m.ID != 4711 || !m.Response || !m.RecursionAvailable || len(m.Questions) > 1 {
		t.Errorf("got %v", m.GoString())
	}
	words := []string{m.RCode.String()[5:]}
	if m.Truncated {
		words = append(words, "cut")
	}
	if len(m.Answers) > 10 {
		return fmt.Sprint(words, len(m.Answers))
	}
	for _, a := range m.Answers {
		switch body := a.Body.(type) {
		case *dnsmessage.AResource:
			words = append(words, netip.AddrFrom4(body.A).String())
		case *dnsmessage.PTRResource:
			words = append(words, body.PTR.String())
		case *dnsmessage.CNAMEResource:
			words = append(words, body.CNAME.String())
		case *dnsmessage.MXResource:
			words = append(words, body.MX.String())
		case *dnsmessage.TXTResource:
			words = append(words, fmt.Sprint(len(strings.Join(body.TXT, ""))))
		}
	}
	return fmt.Sprint(words)
}

func TestAnswer(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   dnsmessage.Type
		size   int
		stream bool
		want   string
	}{
		{"example.test.", dnsmessage.TypeA, 0, false, "[Success 93.184.216.34 127.0.0.1]"},
		{"example.test.", dnsmessage.TypeA, 1232, false, "[Success 93.184.216.34 127.0.0.1]"},
		{"example.test.", dnsmessage.TypeAAAA, 0, false, "[Success]"},
		{"nowhere.test.", dnsmessage.TypeA, 0, false, "[NameError]"},
		{"nowhere.test.", dnsmessage.TypeSRV, 0, false, "[Success]"},
		{"broken.test.", dnsmessage.TypeA, 0, false, "[ServerFailure]"},
		{"many.test.", dnsmessage.TypeA, 0, false, "[Success cut]"},
		{"many.test.", dnsmessage.TypeA, 65535, false, "[Success] 64"},
		{"many.test.", dnsmessage.TypeA, 0, true, "[Success] 64"},
		{"example.test.", dnsmessage.TypeTXT, 65535, false, "[Success cut]"},
		{"example.test.", dnsmessage.TypeTXT, 0, true, "[Success 5 3000]"},
		{"example.test.", dnsmessage.TypeMX, 0, false, "[Success mail.test.]"},
		{"www.test.", dnsmessage.TypeCNAME, 0, false, "[Success example.test.]"},
		{"example.test.", dnsmessage.TypeCNAME, 0, false, "[Success]"},
		{"34.216.184.93.in-addr.arpa.", dnsmessage.TypePTR, 0, false, "[Success example.test.]"},
		{"1.216.184.93.in-addr.arpa.", dnsmessage.TypePTR, 0, false, "[NameError]"},
		{"1." + strings.Repeat("0.", 23) + "8.b.d.0.1.0.0.2.ip6.arpa.", dnsmessage.TypePTR, 0, false, "[Success example.test.]"},
		{"x.y.in-addr.arpa.", dnsmessage.TypePTR, 0, false, "[Success]"},
	} {
		got := told(t, answer(t.Context(), names{}, question(t, c.name, c.kind, c.size), c.stream))
		if got != c.want {
			t.Errorf("%s %v: got %s, want %s", c.name, c.kind, got, c.want)
		}
	}
}

func TestOddQuestions(t *testing.T) {
	good := question(t, "example.test.", dnsmessage.TypeA, 0)
	change := func(offset int, value byte) []byte {
		query := bytes.Clone(good)
		query[offset] = value
		return query
	}
	for name, c := range map[string]struct {
		query []byte
		want  string // "" for no answer
	}{
		"nothing":       {nil, ""},
		"an answer":     {change(2, 0x81), ""},
		"cut":           {good[:20], "[FormatError]"},
		"no question":   {change(5, 0), "[FormatError]"},
		"two questions": {change(5, 2), "[FormatError]"},
		"an update":     {change(2, 0x29), "[NotImplemented]"},
		"chaos":         {change(len(good)-1, 3), "[NotImplemented]"},
	} {
		got := ""
		if reply := answer(t.Context(), names{}, c.query, false); reply != nil {
			got = told(t, reply)
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// TestNameServer asks over the wire, on UDP and on TCP.
func TestNameServer(t *testing.T) {
	socket, _ := serve(t, Options{Resolver: names{}})
	g := newGuest(t, socket)
	conn := g.dialUDP("10.0.2.2:53")
	query := question(t, "example.test.", dnsmessage.TypeA, 0)
	if _, err := conn.Write(query); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	count, err := conn.Read(buf)
	if err != nil || told(t, buf[:count]) != "[Success 93.184.216.34 127.0.0.1]" {
		t.Errorf("on UDP: %d bytes, %v", count, err)
	}
	stream, err := g.dialTCP("10.0.2.2:53")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for range 3 { // on one connection
		if got := askStream(t, stream, question(t, "many.test.", dnsmessage.TypeA, 0)); told(t, got) != "[Success] 64" {
			t.Errorf("on TCP: %s", told(t, got))
		}
	}
	if _, err := stream.Write(append([]byte{0xff, 0xff}, make([]byte, 2000)...)); err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(stream); len(rest) > 0 { // it ends, with or without a reset
		t.Errorf("a question that is too long was answered with %d bytes", len(rest))
	}
}

func askStream(t *testing.T, conn *gonet.TCPConn, query []byte) []byte {
	t.Helper()
	if err := writeMessage(conn, query); err != nil {
		t.Fatal(err)
	}
	var prefix [2]byte
	if _, err := io.ReadFull(conn, prefix[:]); err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, binary.BigEndian.Uint16(prefix[:]))
	if _, err := io.ReadFull(conn, reply); err != nil {
		t.Fatal(err)
	}
	return reply
}

func FuzzAnswer(f *testing.F) {
	f.Add(question(f, "example.test.", dnsmessage.TypeA, 4096), false)
	f.Add(question(f, "34.216.184.93.in-addr.arpa.", dnsmessage.TypePTR, 0), true)
	f.Add(question(f, ".", dnsmessage.TypeTXT, 0), true)
	f.Add([]byte("garbage that is longer than a header"), false)
	f.Fuzz(func(t *testing.T, query []byte, stream bool) {
		reply := answer(t.Context(), names{}, query, stream)
		if limit := map[bool]int{true: 65535, false: largeAnswer}[stream]; len(reply) > limit {
			t.Fatalf("answered %d bytes, want at most %d", len(reply), limit)
		}
		var m dnsmessage.Message
		if err := m.Unpack(reply); reply != nil && err != nil {
			t.Fatal(err)
		}
	})
}

// TestPing sees that the gateway answers, and that nobody else is pretended.
func TestPing(t *testing.T) {
	socket, _ := serve(t, Options{})
	conn := plug(t, socket)
	writeRaw(t, conn, echoFrame(full("1.2.3.4:0").Addr))
	writeRaw(t, conn, echoFrame(gatewayIP))
	if ip := readIPv4(t, conn); ip.SourceAddress() != gatewayIP || header.ICMPv4(ip.Payload()).Type() != header.ICMPv4EchoReply {
		t.Errorf("the answer is %x", []byte(ip))
	}
}

// readIPv4 waits for the next packet. A question to the guest would fail the
// test: who never asked for the gateway need not say who he is.
func readIPv4(t *testing.T, conn *wire) header.IPv4 {
	t.Helper()
	frame := conn.next(t)
	if eth := header.Ethernet(frame); eth.Type() != header.IPv4ProtocolNumber || eth.DestinationAddress() != guestMAC {
		t.Fatalf("the network sent %x", frame)
	}
	return header.IPv4(frame[header.EthernetMinimumSize:])
}

func echoFrame(to tcpip.Address) []byte {
	frame := datagramFrame(tcpip.FullAddress{Addr: guestIP}, tcpip.FullAddress{Addr: to}, gatewayMAC, nil)
	ip := header.IPv4(frame[header.EthernetMinimumSize:])
	ip[9] = uint8(header.ICMPv4ProtocolNumber)
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
	echo := header.ICMPv4(ip.Payload())
	clear(echo)
	echo.SetType(header.ICMPv4Echo)
	echo.SetChecksum(header.ICMPv4Checksum(echo, 0))
	return frame
}
