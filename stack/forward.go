package stack

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// CheckForward says what is wrong with sending the names of a domain
// ("corp.example") to resolvers ("10.0.0.53", "10.0.0.53:5353").
func CheckForward(domain string, servers []string) error {
	if err := checkDomain(domain); err != nil {
		return err
	}
	if len(servers) == 0 {
		return fmt.Errorf("domain %s has no resolver: name at least one address", domain)
	}
	for _, s := range servers {
		if err := checkResolver(s); err != nil {
			return err
		}
	}
	return nil
}

func checkDomain(domain string) error {
	name := strings.TrimSuffix(domain, ".")
	if name == "" {
		return errors.New("every name is in the domain \".\": for all names give the service `dns:`")
	}
	if len(name) > 253 {
		return fmt.Errorf("domain %.20s... is longer than 253 characters", name)
	}
	for label := range strings.SplitSeq(name, ".") {
		odd := strings.IndexFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		})
		if label == "" || len(label) > 63 || odd >= 0 {
			return fmt.Errorf("%q is not a domain like corp.example", domain)
		}
	}
	return nil
}

// checkResolver wants an address, with or without a port. A loopback address is
// that of the node: of each node that has containers of the network.
func checkResolver(s string) error {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		var ap netip.AddrPort
		if ap, err = netip.ParseAddrPort(s); err == nil && ap.Port() == 0 {
			return fmt.Errorf("resolver %s: port 0 is out of range", s)
		}
		addr = ap.Addr()
	}
	if err != nil {
		return fmt.Errorf("resolver %q is not an address like 10.0.0.53 or 10.0.0.53:5353", s)
	}
	if addr.IsUnspecified() || addr.IsMulticast() {
		return fmt.Errorf("resolver %s is not the address of a machine", s)
	}
	return nil
}
