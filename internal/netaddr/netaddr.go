// Package netaddr tells apart what addresses mean: those out in the network, and
// those that a stranger's name must not lead to.
package netaddr

import "net/netip"

// Plain is an address without the forms that hide what it is: an IPv4 address that
// is written as IPv6, and a zone.
func Plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// NotOne tells a plain address that no single server has out in the network: that
// of a link, where clouds answer for a machine's credentials, and those of nobody
// or of many.
func NotOne(a netip.Addr) bool {
	return a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsMulticast() ||
		among(a, "0.0.0.0/8", "240.0.0.0/4", "100.100.100.200/32", "168.63.129.16/32", "fd00:ec2::/32", "fd20:ce::/32")
}

// OfSite tells plain addresses of a site's own network (RFC 1918, 4193, 6598), and
// those in which an IPv4 address may be hidden (RFC 3056, 4380, 6052).
func OfSite(a netip.Addr) bool {
	return a.IsPrivate() || among(a, "100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "::/96",
		"64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "fec0::/10")
}

func among(a netip.Addr, prefixes ...string) bool {
	for _, text := range prefixes {
		if prefix, err := netip.ParsePrefix(text); err != nil || prefix.Contains(a) {
			return true
		}
	}
	return false
}
