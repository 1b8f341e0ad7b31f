package usernet

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	mtu      = 1500
	maxFrame = header.EthernetMinimumSize + mtu
	// maxWire is the longest frame that QEMU passes on (NET_BUFSIZE in its
	// include/net/net.h): a longer one was not sent by QEMU.
	maxWire = 4096 + 65536
)

// frameReader reads what QEMU's stream network device writes (net/stream.c): a
// length of 4 bytes, big-endian, and a frame of that length without checksum.
type frameReader struct {
	from  *bufio.Reader
	frame [maxFrame]byte
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{from: bufio.NewReaderSize(r, 64<<10)}
}

// next is the next frame of 14 to maxFrame bytes, good until the next call.
// Others that a guest can make QEMU send are passed over.
func (f *frameReader) next() ([]byte, error) {
	for {
		var prefix [4]byte
		if _, err := io.ReadFull(f.from, prefix[:]); err != nil {
			return nil, err
		}
		size := binary.BigEndian.Uint32(prefix[:])
		if size > maxWire {
			return nil, fmt.Errorf("cannot read a frame of %d bytes: QEMU sends at most %d", size, maxWire)
		}
		if size >= header.EthernetMinimumSize && size <= maxFrame {
			_, err := io.ReadFull(f.from, f.frame[:size])
			return f.frame[:size], err
		}
		if _, err := f.from.Discard(int(size)); err != nil {
			return nil, err
		}
	}
}

// writeFrame writes one packet of the stack in the form that QEMU reads.
func writeFrame(w *bufio.Writer, pkt *stack.PacketBuffer) error {
	var prefix [4]byte
	binary.BigEndian.PutUint32(prefix[:], uint32(pkt.Size()))
	if _, err := w.Write(prefix[:]); err != nil {
		return err
	}
	for _, part := range pkt.AsSlices() {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// admit tells whether a frame may go to the stack, which takes the packets for
// every address: ARP about the gateway, and IPv4 from the guest's own address.
func admit(frame []byte) bool {
	eth := header.Ethernet(frame)
	if dst := eth.DestinationAddress(); dst != gatewayMAC && dst != header.EthernetBroadcastAddress {
		return false
	}
	payload := frame[header.EthernetMinimumSize:]
	switch eth.Type() {
	case header.ARPProtocolNumber:
		return admitARP(payload)
	case header.IPv4ProtocolNumber:
		return admitIPv4(payload)
	}
	return false
}

// admitARP lets the guest ask for the gateway. Without this, the stack would
// claim every address of the network.
func admitARP(payload []byte) bool {
	arp := header.ARP(payload)
	return arp.IsValid() && arp.Op() == header.ARPRequest && tcpip.AddrFromSlice(arp.ProtocolAddressTarget()) == gatewayIP
}

// admitIPv4 keeps out other senders, IP options, and destinations that are
// more than one host, but for DHCP's. Only the gateway has an echo: a stack
// that is every host would answer for those that are down.
func admitIPv4(payload []byte) bool {
	if len(payload) < header.IPv4MinimumSize {
		return false
	}
	ip := header.IPv4(payload)
	if payload[0] != 4<<4|header.IPv4MinimumSize/4 || int(ip.TotalLength()) > len(payload) {
		return false
	}
	from, to := ip.SourceAddress(), ip.DestinationAddress()
	if to == header.IPv4Broadcast {
		return (from == guestIP || from == header.IPv4Any) && isDHCP(ip)
	}
	if from != guestIP || header.IsV4MulticastAddress(to) || to == networkBroadcast {
		return false
	}
	switch ip.TransportProtocol() {
	case header.TCPProtocolNumber, header.UDPProtocolNumber:
		return true
	case header.ICMPv4ProtocolNumber:
		return to == gatewayIP
	}
	return false
}

func isDHCP(ip header.IPv4) bool {
	if ip.TransportProtocol() != header.UDPProtocolNumber || ip.FragmentOffset() != 0 || ip.More() {
		return false
	}
	datagram := ip[header.IPv4MinimumSize:]
	return len(datagram) >= header.UDPMinimumSize && header.UDP(datagram).DestinationPort() == dhcpServerPort
}
