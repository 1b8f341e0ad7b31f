package usernet

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

// Resolver answers the guest's questions; *net.Resolver is one, whose methods
// these are. What an answer points to is judged when the guest connects to it.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
	LookupCNAME(ctx context.Context, host string) (string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

const (
	dnsPort      = 53
	maxAsked     = 16               // questions at once, on UDP and TCP together
	maxDNSStream = 8                // TCP connections at once
	answerTime   = 8 * time.Second  // for one question
	askTime      = 10 * time.Second // for a client on TCP to ask its next one
)

// nameserver answers the questions of one guest.
type nameserver struct {
	ctx      context.Context
	resolver Resolver
	asked    chan struct{} // a place for each question
	queries  *rate.Limiter
	streams  chan struct{}
}

// serveDNS answers on the gateway's port 53, on UDP and TCP (RFC 1035, section
// 4.2; RFC 7766).
func (n *network) serveDNS() error {
	s := &nameserver{
		ctx: n.ctx, resolver: n.o.Resolver, queries: n.queries,
		asked: make(chan struct{}, maxAsked), streams: make(chan struct{}, maxDNSStream),
	}
	at := tcpip.FullAddress{NIC: nic, Addr: gatewayIP, Port: dnsPort}
	datagrams, err := gonet.DialUDP(n.stack, &at, nil, ipv4.ProtocolNumber)
	if err != nil {
		return err
	}
	listener, err := gonet.ListenTCP(n.stack, at, ipv4.ProtocolNumber)
	if err != nil {
		return errors.Join(err, datagrams.Close())
	}
	if !n.keep(datagrams) || !n.keep(listener) {
		return net.ErrClosed
	}
	n.owned.Go(func() {
		defer n.drop(datagrams)
		s.datagrams(datagrams)
	})
	n.owned.Go(func() {
		defer n.drop(listener)
		s.listen(n, listener)
	})
	return nil
}

// datagrams answers on UDP. A question too many is lost: clients ask again.
func (s *nameserver) datagrams(conn net.PacketConn) {
	var under sync.WaitGroup
	defer under.Wait()
	buf := make([]byte, maxQuery)
	for {
		count, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if !s.queries.Allow() {
			continue
		}
		select {
		case s.asked <- struct{}{}:
		default:
			continue
		}
		query := append([]byte(nil), buf[:count]...)
		under.Go(func() {
			defer func() { <-s.asked }()
			if reply := s.reply(query, false); reply != nil {
				_, _ = conn.WriteTo(reply, from) // lost
			}
		})
	}
}

func (s *nameserver) listen(n *network, listener net.Listener) {
	var under sync.WaitGroup
	defer under.Wait()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		select {
		case s.streams <- struct{}{}:
		default:
			_ = conn.Close() // one too many
			continue
		}
		under.Go(func() {
			defer func() { <-s.streams }()
			if n.keep(conn) {
				defer n.drop(conn)
				s.stream(conn)
			}
		})
	}
}

// stream answers the questions of one TCP connection, one after the other.
func (s *nameserver) stream(conn net.Conn) {
	for {
		if conn.SetDeadline(time.Now().Add(askTime)) != nil {
			return
		}
		query, err := readMessage(conn)
		if err != nil || s.queries.Wait(s.ctx) != nil {
			return
		}
		select {
		case s.asked <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		reply := s.reply(query, true)
		<-s.asked
		if reply == nil || conn.SetDeadline(time.Now().Add(askTime)) != nil || writeMessage(conn, reply) != nil {
			return
		}
	}
}

func (s *nameserver) reply(query []byte, stream bool) []byte {
	ctx, cancel := context.WithTimeout(s.ctx, answerTime)
	defer cancel()
	return answer(ctx, s.resolver, query, stream)
}

func readMessage(r io.Reader) ([]byte, error) {
	var prefix [2]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint16(prefix[:])
	if size > maxQuery {
		return nil, errors.New("cannot read a question of such a length")
	}
	query := make([]byte, size)
	_, err := io.ReadFull(r, query)
	return query, err
}

func writeMessage(w io.Writer, reply []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
	return err
}
