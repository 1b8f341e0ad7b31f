package usernet

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	dhcpServerPort = 67
	dhcpClientPort = 68
	maxQuery       = 1500 // of DHCP and DNS: what one frame carries
	lease          = 12 * time.Hour
)

// serveDHCP leases the one address there is (RFC 2131).
func (n *network) serveDHCP() error {
	var wq waiter.Queue
	ep, err := n.stack.NewEndpoint(udp.ProtocolNumber, ipv4.ProtocolNumber, &wq)
	if err != nil {
		return errors.New(err.String())
	}
	ep.SocketOptions().SetBroadcast(true)
	if err := ep.Bind(tcpip.FullAddress{NIC: nic, Port: dhcpServerPort}); err != nil {
		ep.Close()
		return errors.New(err.String())
	}
	conn := gonet.NewUDPConn(&wq, ep)
	if !n.keep(conn) {
		return net.ErrClosed
	}
	n.owned.Go(func() {
		defer n.drop(conn)
		leaseTo(conn)
	})
	return nil
}

func leaseTo(conn net.PacketConn) {
	buf := make([]byte, maxQuery)
	for {
		count, _, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		reply, to := dhcpReply(buf[:count])
		if reply == nil {
			continue
		}
		if _, err := conn.WriteTo(reply, &net.UDPAddr{IP: to.AsSlice(), Port: dhcpClientPort}); err != nil {
			continue // lost: the client asks again
		}
	}
}

// dhcpReply is the answer to one message and where it goes, or nil. A client
// that wants another address than the one there is hears so at once.
func dhcpReply(message []byte) (reply []byte, to netip.Addr) {
	ask, err := dhcpv4.FromBytes(message)
	if err != nil || ask.OpCode != dhcpv4.OpcodeBootRequest || ask.HWType != 1 || len(ask.ClientHWAddr) != 6 {
		return nil, to
	}
	guest, gateway := net.IP(guestIP.AsSlice()), net.IP(gatewayIP.AsSlice())
	if server := ask.ServerIdentifier(); server != nil && !server.Equal(gateway) {
		return nil, to
	}
	answer := answerTo(ask, guest)
	if answer == dhcpv4.MessageTypeNone {
		return nil, to
	}
	options := []dhcpv4.Modifier{
		dhcpv4.WithMessageType(answer), dhcpv4.WithServerIP(gateway),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(gateway)),
	}
	if answer != dhcpv4.MessageTypeNak {
		options = append(options, configuration(ask, guest, gateway)...)
	}
	m, err := dhcpv4.NewReplyFromRequest(ask, options...)
	if err != nil {
		return nil, to
	}
	to = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	if ask.ClientIPAddr.Equal(guest) && answer == dhcpv4.MessageTypeAck {
		to = netip.AddrFrom4(guestIP.As4()) // it has the address, and listens on it alone
	}
	return m.ToBytes(), to
}

// answerTo is the kind of answer that a message gets: none, an offer, yes or no.
func answerTo(ask *dhcpv4.DHCPv4, guest net.IP) dhcpv4.MessageType {
	switch ask.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		return dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeInform:
		return dhcpv4.MessageTypeAck
	case dhcpv4.MessageTypeRequest:
		wanted := ask.RequestedIPAddress()
		if wanted == nil {
			wanted = ask.ClientIPAddr
		}
		if wanted.Equal(guest) {
			return dhcpv4.MessageTypeAck
		}
		return dhcpv4.MessageTypeNak
	}
	return dhcpv4.MessageTypeNone
}

// configuration is what a client is told with its address; one that only
// informs itself (RFC 2131, section 3.4) has one already.
func configuration(ask *dhcpv4.DHCPv4, guest, gateway net.IP) []dhcpv4.Modifier {
	options := []dhcpv4.Modifier{
		dhcpv4.WithNetmask(net.CIDRMask(guestNetwork.Bits(), 32)),
		dhcpv4.WithRouter(gateway),
		dhcpv4.WithDNS(gateway),
		dhcpv4.WithOption(dhcpv4.Option{Code: dhcpv4.OptionInterfaceMTU, Value: dhcpv4.Uint16(mtu)}),
	}
	if ask.MessageType() == dhcpv4.MessageTypeInform {
		return options
	}
	return append(options, dhcpv4.WithYourIP(guest), dhcpv4.WithOption(dhcpv4.OptIPAddressLeaseTime(lease)))
}
