package usernet

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

func framed(sizes ...int) []byte {
	var wire []byte
	for i, size := range sizes {
		wire = binary.BigEndian.AppendUint32(wire, uint32(size))
		wire = append(wire, bytes.Repeat([]byte{byte(i)}, size)...)
	}
	return wire
}

func TestFrameReader(t *testing.T) {
	for _, c := range []struct {
		name string
		wire []byte
		want []int // the sizes of the frames that are read
		err  string
	}{
		{"nothing", nil, nil, "EOF"},
		{"frames", framed(14, 60, 1514), []int{14, 60, 1514}, "EOF"},
		{"too short", framed(0, 1, 13, 20), []int{20}, "EOF"},
		{"too long for the wire", framed(1515, 9000, maxWire, 20), []int{20}, "EOF"},
		{"longer than QEMU's", framed(20, maxWire+1, 20), []int{20}, "cannot read a frame of 69633 bytes"},
		{"all ones", append(framed(20), "\xff\xff\xff\xff"...), []int{20}, "cannot read a frame of 4294967295 bytes"},
		{"cut in the length", framed(20)[:3], nil, "unexpected EOF"},
		{"cut in the frame", framed(20)[:20], nil, "unexpected EOF"},
		{"cut in one passed over", framed(9000)[:20], nil, "EOF"},
	} {
		frames := newFrameReader(bytes.NewReader(c.wire))
		var got []int
		for {
			frame, err := frames.next()
			if err != nil {
				if !strings.Contains(err.Error(), c.err) {
					t.Errorf("%s: ended with %v, want %s", c.name, err, c.err)
				}
				break
			}
			got = append(got, len(frame))
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: read frames of %v bytes, want %v", c.name, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: read frames of %v bytes, want %v", c.name, got, c.want)
			}
		}
	}
}

func TestWriteFrame(t *testing.T) {
	var wire bytes.Buffer
	w := bufio.NewWriter(&wire)
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(make([]byte, 99))})
	defer pkt.DecRef()
	if err := errors.Join(writeFrame(w, pkt), w.Flush()); err != nil {
		t.Fatal(err)
	}
	if want := append([]byte{0, 0, 0, 99}, make([]byte, 99)...); !bytes.Equal(wire.Bytes(), want) {
		t.Errorf("wrote %v", wire.Bytes())
	}
}

func arpFrame(target tcpip.Address) []byte {
	frame := make([]byte, header.EthernetMinimumSize+header.ARPSize)
	header.Ethernet(frame).Encode(&header.EthernetFields{SrcAddr: guestMAC, DstAddr: header.EthernetBroadcastAddress, Type: header.ARPProtocolNumber})
	question := header.ARP(frame[header.EthernetMinimumSize:])
	question.SetIPv4OverEthernet()
	question.SetOp(header.ARPRequest)
	copy(question.HardwareAddressSender(), guestMAC)
	copy(question.ProtocolAddressSender(), guestIP.AsSlice())
	copy(question.ProtocolAddressTarget(), target.AsSlice())
	return frame
}

type sample struct {
	name  string
	frame []byte
}

const ipOffset = header.EthernetMinimumSize

// changed is a frame with another byte in one place.
func changed(frame []byte, offset int, value byte) []byte {
	frame = bytes.Clone(frame)
	frame[offset] = value
	return frame
}

func TestAdmitted(t *testing.T) {
	me := tcpip.FullAddress{Addr: guestIP, Port: 68}
	for _, c := range []sample{
		{"a datagram", datagramFrame(me, full("1.2.3.4:5"), gatewayMAC, nil)},
		{"a segment", synFrame(7, "1.2.3.4:80")},
		{"a datagram to the gateway", datagramFrame(me, full("10.0.2.2:53"), gatewayMAC, nil)},
		{"DHCP without address", datagramFrame(full("0.0.0.0:68"), full("255.255.255.255:67"), header.EthernetBroadcastAddress, nil)},
		{"DHCP with address", datagramFrame(me, full("255.255.255.255:67"), header.EthernetBroadcastAddress, nil)},
		{"a question about the gateway", arpFrame(gatewayIP)},
		{"a ping of the gateway", changed(datagramFrame(me, full("10.0.2.2:0"), gatewayMAC, nil), ipOffset+9, 1)},
	} {
		if !admit(c.frame) {
			t.Errorf("%s is kept out", c.name)
		}
	}
}

func TestKeptOut(t *testing.T) {
	me, somewhere := tcpip.FullAddress{Addr: guestIP, Port: 68}, full("1.2.3.4:5")
	good := datagramFrame(me, somewhere, gatewayMAC, []byte("x"))
	discover := datagramFrame(full("0.0.0.0:68"), full("255.255.255.255:67"), header.EthernetBroadcastAddress, nil)
	for _, c := range []sample{
		{"a question about another", arpFrame(somewhere.Addr)},
		{"a question about itself", arpFrame(guestIP)},
		{"an answer about the gateway", changed(arpFrame(gatewayIP), ipOffset+7, 2)},
		{"ARP cut short", arpFrame(gatewayIP)[:ipOffset+20]},
		{"ARP of another hardware", changed(arpFrame(gatewayIP), ipOffset+1, 6)},
		{"to another card", datagramFrame(me, somewhere, guestMAC, nil)},
		{"to a multicast card", datagramFrame(me, somewhere, "\x01\x00\x5e\x00\x00\xfb", nil)},
		{"from another address", datagramFrame(full("10.0.2.16:68"), somewhere, gatewayMAC, nil)},
		{"from the gateway", datagramFrame(full("10.0.2.2:68"), somewhere, gatewayMAC, nil)},
		{"from loopback", datagramFrame(full("127.0.0.1:68"), somewhere, gatewayMAC, nil)},
		{"from nowhere", datagramFrame(full("0.0.0.0:68"), somewhere, gatewayMAC, nil)},
		{"to all", datagramFrame(me, full("255.255.255.255:9"), header.EthernetBroadcastAddress, nil)},
		{"to the whole network", datagramFrame(me, full("10.0.2.255:9"), header.EthernetBroadcastAddress, nil)},
		{"to a group", datagramFrame(me, full("224.0.0.251:5353"), gatewayMAC, nil)},
		{"a fragment of DHCP", changed(discover, ipOffset+6, 0x20)},
		{"DHCP that is TCP", changed(discover, ipOffset+9, 6)},
		{"a ping of another", changed(good, ipOffset+9, 1)},
		{"another protocol", changed(good, ipOffset+9, 47)},
		{"IP options", changed(good, ipOffset, 0x46)},
		{"a header too short", changed(good, ipOffset, 0x44)},
		{"IPv6 in IPv4's frame", changed(good, ipOffset, 0x65)},
		{"longer than the frame", changed(good, ipOffset+2, 7)},
		{"IPv6", changed(changed(good, 12, 0x86), 13, 0xdd)},
		{"a VLAN", changed(good, 12, 0x81)},
		{"an empty frame", good[:ipOffset]},
		{"a cut header", good[:ipOffset+19]},
	} {
		if admit(c.frame) {
			t.Errorf("%s is let in", c.name)
		}
	}
}

// FuzzFrames reads a wire as QEMU would write it and hands what is admitted to
// a stack of its own: whatever comes, nothing panics, and no frame is longer
// than the wire carries.
func FuzzFrames(f *testing.F) {
	seed := func(frames ...[]byte) []byte {
		var wire []byte
		for _, frame := range frames {
			wire = append(binary.BigEndian.AppendUint32(wire, uint32(len(frame))), frame...)
		}
		return wire
	}
	me := tcpip.FullAddress{Addr: guestIP, Port: 68}
	f.Add(framed(14, 60, 1514, 9000, 3))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Add(seed(arpFrame(gatewayIP), synFrame(1, "1.2.3.4:80"), synFrame(1, "10.0.2.2:53")))
	f.Add(seed(datagramFrame(me, full("10.0.2.2:53"), gatewayMAC, []byte("question")), datagramFrame(me, full("1.2.3.4:5"), gatewayMAC, nil)))
	f.Add(seed(datagramFrame(full("0.0.0.0:68"), full("255.255.255.255:67"), header.EthernetBroadcastAddress, discovery())))
	f.Fuzz(func(t *testing.T, wire []byte) {
		frames := newFrameReader(bytes.NewReader(wire))
		for {
			frame, err := frames.next()
			if err != nil {
				break
			}
			if len(frame) < header.EthernetMinimumSize || len(frame) > maxFrame {
				t.Fatalf("read a frame of %d bytes", len(frame))
			}
		}
		o := Options{Allow: only("1.2.3.4:80"), Resolver: noNames{}}.withDefaults()
		o.dial = nowhere
		n, err := newNetwork(t.Context(), o, &refusals{log: o.Log, seen: map[destination]bool{}})
		if err != nil {
			t.Fatal(err)
		}
		n.receive(bytes.NewReader(wire))
		n.close()
	})
}
