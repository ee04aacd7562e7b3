package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/dhow-project/dhow/runtime"
)

// DefaultPort is where nodes listen for each other, as the field's tools do.
const DefaultPort = 2377

// DefaultGossipPort is where nodes gossip.
const DefaultGossipPort = 7946

// complete makes host:port of an address or the name of an interface, each with
// or without a port. The name stays: its address may be another one tomorrow.
func complete(s string, port int) (string, error) {
	host, p := s, strconv.Itoa(port)
	if h, given, err := net.SplitHostPort(s); err == nil {
		host, p = h, given
	}
	host = strings.Trim(host, "[]")
	if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("address %q: port %q is not between 1 and 65535: %w", s, p, runtime.ErrInvalid)
	}
	if host == "" {
		return "", fmt.Errorf("address %q: neither an IP address nor an interface: %w", s, runtime.ErrInvalid)
	}
	return net.JoinHostPort(host, p), nil
}

// resolve replaces the name of an interface by its address now.
func resolve(hostPort string) (string, error) {
	host, p, err := net.SplitHostPort(hostPort)
	if err != nil {
		return "", fmt.Errorf("address %q: %w: %w", hostPort, err, runtime.ErrInvalid)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return hostPort, nil
	}
	found, err := ofInterface(host)
	if err != nil {
		return "", fmt.Errorf("address %q: %w", hostPort, err)
	}
	return net.JoinHostPort(found, p), nil
}

// listenAddr completes what a person gave: "" is all addresses.
func listenAddr(s string) (string, error) {
	if s == "" {
		s = "0.0.0.0"
	}
	return complete(s, DefaultPort)
}

func ofInterface(name string) (string, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return "", fmt.Errorf("neither an IP address nor an interface of this machine: %w", runtime.ErrInvalid)
	}
	addrs, err := i.Addrs()
	if err != nil {
		return "", err
	}
	if found := usable(addrs); len(found) > 0 {
		return found[0].String(), nil
	}
	return "", fmt.Errorf("interface %s has no address that another machine could reach: %w", name, runtime.ErrInvalid)
}

// usable are the addresses that another machine can reach, IPv4 first.
func usable(addrs []net.Addr) []netip.Addr {
	var v4, v6 []netip.Addr
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || p.Addr().IsLoopback() || p.Addr().IsLinkLocalUnicast() || p.Addr().IsMulticast() {
			continue
		}
		if p.Addr().Is4() {
			v4 = append(v4, p.Addr())
		} else {
			v6 = append(v6, p.Addr())
		}
	}
	return append(v4, v6...)
}

// onlyAddr is the address of a machine that has one interface to the world.
// With several, a person has to say which. Ours (bridges of container networks) do not count.
func onlyAddr(ours func(name string) bool) (string, error) {
	list, err := net.Interfaces()
	if err != nil {
		return "", err
	}
	var found []string
	for _, i := range list {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 || ours != nil && ours(i.Name) {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			return "", err
		}
		if a := usable(addrs); len(a) > 0 {
			found = append(found, fmt.Sprintf("%s (%s)", a[0], i.Name))
		}
	}
	switch len(found) {
	case 1:
		addr, _, _ := strings.Cut(found[0], " ")
		return addr, nil
	case 0:
		return "", fmt.Errorf("this machine has no address that others could reach; give one with --advertise-addr: %w", runtime.ErrInvalid)
	}
	return "", fmt.Errorf("this machine has several addresses, %s: say which the others shall use with --advertise-addr: %w", strings.Join(found, ", "), runtime.ErrInvalid)
}

// towards is this machine's address on the way to another one; nothing is sent.
func towards(ctx context.Context, addr string) (string, error) {
	c, err := new(net.Dialer).DialContext(ctx, "udp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	return host, err
}

// anywhere reports whether host:port is all addresses of this machine.
func anywhere(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsUnspecified()
}

// isSix reports whether host:port is an IPv6 address.
func isSix(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	ip, err2 := netip.ParseAddr(host)
	return err == nil && err2 == nil && ip.Is6() && !ip.Is4In6()
}

// withPort is the host of one address with the port of another.
func withPort(hostOf, portOf string) string {
	host, _, err := net.SplitHostPort(hostOf)
	_, p, err2 := net.SplitHostPort(portOf)
	if err != nil || err2 != nil {
		return portOf
	}
	return net.JoinHostPort(host, p)
}

// isOwn reports whether an interface of this machine has the address.
func isOwn(host string) bool {
	ip := net.ParseIP(host)
	addrs, err := net.InterfaceAddrs()
	if err != nil || ip == nil {
		return true
	}
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip)
	})
}
