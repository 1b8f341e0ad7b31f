package netaddr

import (
	"net/netip"
	"testing"
)

func TestKinds(t *testing.T) {
	for text, want := range map[string]string{
		"93.184.215.14": "", "2606:2800:21f:cb07::1": "", "::ffff:93.184.215.14": "", "100.128.0.1": "", "172.32.0.1": "",
		"169.254.169.254": "not one", "::ffff:169.254.169.254": "not one", "fe80::1%eth0": "not one", "0.0.0.0": "not one", "::": "not one of site",
		"0.1.2.3": "not one", "224.0.0.1": "not one", "ff02::1": "not one", "255.255.255.255": "not one", "240.0.0.1": "not one",
		"100.100.100.200": "not one of site", "168.63.129.16": "not one", "fd00:ec2::254": "not one of site", "fd20:ce::254": "not one of site",
		"10.0.0.1": "of site", "172.16.0.1": "of site", "192.168.1.1": "of site", "::ffff:10.0.0.1": "of site", "fd12::1": "of site",
		"100.64.0.1": "of site", "192.0.0.8": "of site", "198.18.0.1": "of site", "::7f00:1": "of site", "64:ff9b::a00:1": "of site",
		"64:ff9b:1::1": "of site", "2001::1": "of site", "2002:a00:1::": "of site", "fec0::1": "of site",
		"::1": "of site", "127.0.0.1": "", // loopback is for who asks to decide
	} {
		a := Plain(netip.MustParseAddr(text))
		got := ""
		if NotOne(a) {
			got = "not one"
		}
		if OfSite(a) {
			if got != "" {
				got += " "
			}
			got += "of site"
		}
		if got != want {
			t.Errorf("%s is %q, want %q", text, got, want)
		}
	}
}
