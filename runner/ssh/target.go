package ssh

import (
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
)

// What a target is made of. Nothing in it means anything to a shell, so that it
// can be shown in a command to type.
var (
	userForm = regexp.MustCompile(`^[A-Za-z0-9_.][A-Za-z0-9_.-]{0,63}$`)
	hostForm = regexp.MustCompile(`^[A-Za-z0-9_.:][A-Za-z0-9_.:%-]{0,253}$`)
)

// ParseTarget reads "user@host" or "user@host:port", an IPv6 address with a port
// in brackets, and gives the user and "host:port"; the port is 22 if none is
// named (COMPAT.md 1.1, --ssh).
func ParseTarget(target string) (user, address string, err error) {
	const form = "write user@host or user@host:port"
	user, rest, ok := strings.Cut(target, "@")
	if !ok {
		return "", "", fmt.Errorf("cannot use %q as a host: it names no user: %s", target, form)
	}
	host, port := rest, "22"
	bare := strings.Count(rest, ":") > 1 && !strings.HasPrefix(rest, "[")
	if strings.HasPrefix(rest, "[") && strings.HasSuffix(rest, "]") {
		host = rest[1 : len(rest)-1]
	} else if strings.Contains(rest, ":") && !bare {
		if host, port, err = net.SplitHostPort(rest); err != nil {
			return "", "", fmt.Errorf("cannot use %q as a host: %s", target, form)
		}
	}
	number, err := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil || number == 0:
		return "", "", fmt.Errorf("cannot use %q as a host: %q is no port: write a number from 1 to 65535", target, port)
	case !userForm.MatchString(user):
		return "", "", fmt.Errorf("cannot use %q as a host: %q is no user's name: %s", target, user, form)
	case !hostForm.MatchString(host):
		return "", "", fmt.Errorf("cannot use %q as a host: %q is no host: %s", target, host, form)
	}
	return user, net.JoinHostPort(host, strconv.FormatUint(number, 10)), nil
}
