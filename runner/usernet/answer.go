package usernet

import (
	"context"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	ttl         = 30 // seconds; the resolver does not tell how long an answer holds
	maxAnswers  = 64
	plainAnswer = 512  // bytes on UDP for a client that names no size (RFC 1035, section 4.2.1)
	largeAnswer = 1232 // bytes on UDP at most: one frame
)

// answer is the reply to one query, or nil for a message that deserves none. It
// has one question of class IN in it; types that the resolver cannot look up,
// and IPv6 addresses, of which the guest has no use, have no answers.
func answer(ctx context.Context, resolver Resolver, query []byte, stream bool) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response {
		return nil
	}
	reply := dnsmessage.Message{Header: dnsmessage.Header{
		ID: h.ID, Response: true, OpCode: h.OpCode, RecursionDesired: h.RecursionDesired, RecursionAvailable: true,
	}}
	reply.Questions, err = p.AllQuestions()
	switch {
	case err != nil || len(reply.Questions) != 1:
		reply.Questions, reply.RCode = nil, dnsmessage.RCodeFormatError
	case h.OpCode != 0 || reply.Questions[0].Class != dnsmessage.ClassINET:
		reply.RCode = dnsmessage.RCodeNotImplemented
	default:
		reply.Answers, reply.RCode = look(ctx, resolver, reply.Questions[0])
	}
	size := 65535
	if !stream {
		size = datagramSize(&p)
	}
	return pack(reply, size)
}

// datagramSize is how long an answer the client takes (RFC 6891, section 6.2.3).
func datagramSize(p *dnsmessage.Parser) int {
	if p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return plainAnswer
	}
	for range 8 {
		h, err := p.AdditionalHeader()
		if err != nil {
			break
		}
		if h.Type == dnsmessage.TypeOPT {
			return min(max(int(h.Class), plainAnswer), largeAnswer)
		}
		if p.SkipAdditional() != nil {
			break
		}
	}
	return plainAnswer
}

// pack is the message in no more than size bytes: one that is longer says so,
// and the client asks again on TCP.
func pack(m dnsmessage.Message, size int) []byte {
	packed, err := m.Pack()
	if err == nil && len(packed) <= size {
		return packed
	}
	m.Answers, m.Truncated = nil, err == nil
	if err != nil {
		m.RCode = dnsmessage.RCodeServerFailure
	}
	if packed, err = m.Pack(); err != nil {
		return nil
	}
	return packed
}

// look asks the resolver, with the name as it is: no search list applies.
func look(ctx context.Context, resolver Resolver, q dnsmessage.Question) ([]dnsmessage.Resource, dnsmessage.RCode) {
	bodies, err := bodiesFor(ctx, resolver, q.Name.String(), q.Type)
	var missing *net.DNSError
	if errors.As(err, &missing) && missing.IsNotFound {
		if q.Type == dnsmessage.TypeA || q.Type == dnsmessage.TypePTR {
			return nil, dnsmessage.RCodeNameError
		}
		return nil, dnsmessage.RCodeSuccess // the name may well have other records
	}
	if err != nil {
		return nil, dnsmessage.RCodeServerFailure
	}
	bodies = bodies[:min(len(bodies), maxAnswers)]
	answers := make([]dnsmessage.Resource, len(bodies))
	for i, body := range bodies {
		answers[i] = dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: ttl}, Body: body}
	}
	return answers, dnsmessage.RCodeSuccess
}

func bodiesFor(ctx context.Context, resolver Resolver, name string, kind dnsmessage.Type) ([]dnsmessage.ResourceBody, error) {
	switch kind {
	case dnsmessage.TypeA:
		found, err := resolver.LookupNetIP(ctx, "ip4", name)
		return each(found, err, addressBody)
	case dnsmessage.TypePTR:
		addr, ok := reverse(name)
		if !ok {
			return nil, nil
		}
		found, err := resolver.LookupAddr(ctx, addr)
		return each(found, err, func(name string) (dnsmessage.ResourceBody, bool) {
			n, ok := fqdn(name)
			return &dnsmessage.PTRResource{PTR: n}, ok
		})
	case dnsmessage.TypeCNAME:
		return alias(ctx, resolver, name)
	case dnsmessage.TypeMX:
		found, err := resolver.LookupMX(ctx, name)
		return each(found, err, func(mx *net.MX) (dnsmessage.ResourceBody, bool) {
			n, ok := fqdn(mx.Host)
			return &dnsmessage.MXResource{Pref: mx.Pref, MX: n}, ok
		})
	case dnsmessage.TypeTXT:
		found, err := resolver.LookupTXT(ctx, name)
		return each(found, err, func(text string) (dnsmessage.ResourceBody, bool) {
			return &dnsmessage.TXTResource{TXT: pieces(text)}, true
		})
	}
	return nil, nil
}

// each turns what was found into records, leaving out what fits into none.
func each[T any](found []T, err error, body func(T) (dnsmessage.ResourceBody, bool)) ([]dnsmessage.ResourceBody, error) {
	var bodies []dnsmessage.ResourceBody
	for _, f := range found {
		if b, ok := body(f); ok {
			bodies = append(bodies, b)
		}
	}
	if len(bodies) > 0 {
		err = nil // the resolver leaves out odd names, and says so
	}
	return bodies, err
}

func addressBody(addr netip.Addr) (dnsmessage.ResourceBody, bool) {
	if addr = addr.Unmap(); !addr.Is4() {
		return nil, false
	}
	return &dnsmessage.AResource{A: addr.As4()}, true
}

// alias is the name's canonical one, when that is another.
func alias(ctx context.Context, resolver Resolver, name string) ([]dnsmessage.ResourceBody, error) {
	found, err := resolver.LookupCNAME(ctx, name)
	n, ok := fqdn(found)
	if err != nil || !ok || strings.EqualFold(n.String(), name) {
		return nil, err
	}
	return []dnsmessage.ResourceBody{&dnsmessage.CNAMEResource{CNAME: n}}, nil
}

func fqdn(name string) (dnsmessage.Name, bool) {
	n, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	return n, err == nil
}

// pieces cuts a text into strings of 255 bytes (RFC 1035, section 3.3).
func pieces(text string) []string {
	cut := []string{}
	for len(text) > 255 {
		cut, text = append(cut, text[:255]), text[255:]
	}
	return append(cut, text)
}

// reverse is the address that a name below in-addr.arpa (RFC 1035, section
// 3.5) or ip6.arpa (RFC 3596, section 2.5) is about.
func reverse(name string) (string, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if four, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		labels := strings.Split(four, ".")
		if len(labels) != 4 {
			return "", false
		}
		addr, err := netip.ParseAddr(labels[3] + "." + labels[2] + "." + labels[1] + "." + labels[0])
		return addr.String(), err == nil
	}
	six, ok := strings.CutSuffix(name, ".ip6.arpa")
	digits := strings.Split(six, ".")
	if !ok || len(digits) != 32 {
		return "", false
	}
	var text strings.Builder
	for i := 31; i >= 0; i-- {
		if _, err := strconv.ParseUint(digits[i], 16, 4); err != nil || len(digits[i]) != 1 {
			return "", false
		}
		text.WriteString(digits[i])
	}
	raw, err := hex.DecodeString(text.String())
	addr, ok := netip.AddrFromSlice(raw)
	return addr.String(), err == nil && ok
}
