package lb

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"

	"github.com/dhow-project/dhow/overlaynet"
)

// What other nodes send arrives at the host itself, and a closed input chain of
// its firewall (ufw, firewalld) stops it. Who may send to the host is its
// owner's to say, so nothing is done but to tell.

// doorWarnings says where packets of other nodes may be stopped.
func doorWarnings(c *nftables.Conn, chains []*nftables.Chain, in overlaynet.Inbound) (out []string, err error) {
	peers := peersOf(in)
	if in.Port == 0 || len(peers) == 0 {
		return nil, nil
	}
	for _, ch := range chains {
		if !receives(ch) || !stops(ch) {
			continue
		}
		known, err := knowsPort(c, chains, ch.Table, in.Port)
		if err != nil {
			return nil, err
		}
		from := ofFamily(peers, ch.Table.Family)
		if !known && len(from) > 0 {
			out = append(out, fmt.Sprintf("chain %s of table %s stops what it does not know, and no rule there names UDP port %d: containers of other nodes may not be reached. To let the nodes through: %s",
				ch.Name, ch.Table.Name, in.Port, doorCommand(chains, ch, in.Port, from)))
		}
	}
	return out, nil
}

func peersOf(in overlaynet.Inbound) (out []netip.Addr) {
	for a, is := range in.Peers {
		if is {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

func ofFamily(addrs []netip.Addr, f nftables.TableFamily) (out []netip.Addr) {
	for _, a := range addrs {
		if f == nftables.TableFamilyINet || a.Is4() == (f == nftables.TableFamilyIPv4) {
			out = append(out, a)
		}
	}
	return out
}

func receives(ch *nftables.Chain) bool {
	return ch.Hooknum != nil && *ch.Hooknum == *nftables.ChainHookInput && ch.Type == nftables.ChainTypeFilter &&
		(ch.Table.Family == nftables.TableFamilyIPv4 || ch.Table.Family == nftables.TableFamilyIPv6 || ch.Table.Family == nftables.TableFamilyINet)
}

func stops(ch *nftables.Chain) bool {
	return ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop || ch.Table.Name == "firewalld" && ch.Name == "filter_INPUT"
}

// knowsPort tells whether a rule of the table names the UDP port: then
// somebody has thought of it.
func knowsPort(c *nftables.Conn, chains []*nftables.Chain, t *nftables.Table, port uint16) (bool, error) {
	for _, ch := range chains {
		if ch.Table.Name != t.Name || ch.Table.Family != t.Family {
			continue
		}
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			return false, fmt.Errorf("chain %s of table %s: %w", ch.Name, t.Name, err)
		}
		if slices.ContainsFunc(rules, func(r *nftables.Rule) bool { return slices.ContainsFunc(r.Exprs, namesPort(port)) }) {
			return true, nil
		}
	}
	return false, nil
}

func namesPort(port uint16) func(expr.Any) bool {
	want := []byte{byte(port >> 8), byte(port)}
	return func(e expr.Any) bool {
		switch e := e.(type) {
		case *expr.Cmp:
			return e.Op == expr.CmpOpEq && bytes.Equal(e.Data, want)
		case *expr.Range:
			return bytes.Compare(e.FromData, want) <= 0 && bytes.Compare(want, e.ToData) <= 0 && len(e.FromData) == 2
		case *expr.Match: // of iptables
			udp, ok := e.Info.(*xt.Udp)
			return ok && udp.DstPorts[0] <= port && port <= udp.DstPorts[1] && udp.DstPorts != [2]uint16{0, 65535}
		}
		return false
	}
}

// doorCommand is what to type, in the words of the firewall that the chain is of.
func doorCommand(chains []*nftables.Chain, ch *nftables.Chain, port uint16, peers []netip.Addr) string {
	const most = 8
	var each []string
	add := func(format string, args ...any) { each = append(each, fmt.Sprintf(format, args...)) }
	ufw := slices.ContainsFunc(chains, func(x *nftables.Chain) bool {
		return x.Table.Name == ch.Table.Name && x.Table.Family == ch.Table.Family && strings.HasPrefix(x.Name, "ufw")
	})
	if ch.Table.Name == "firewalld" {
		return fmt.Sprintf("firewall-cmd --permanent --add-port=%d/udp && firewall-cmd --reload", port)
	}
	for _, a := range peers[:min(most, len(peers))] {
		tool, word := "iptables", "ip"
		if a.Is6() {
			tool, word = "ip6tables", "ip6"
		}
		switch {
		case ufw:
			add("ufw allow proto udp from %s to any port %d", a, port)
		case ch.Table.Name == "filter" && ch.Table.Family != nftables.TableFamilyINet:
			add("%s -I %s -p udp -s %s --dport %d -j ACCEPT", tool, ch.Name, a, port)
		default:
			add("nft insert rule %s %s %s %s saddr %s udp dport %d accept", familyName(ch.Table.Family), ch.Table.Name, ch.Name, word, a, port)
		}
	}
	if len(peers) > most {
		add("and so on for each node")
	}
	return strings.Join(each, "; ")
}

func familyName(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	}
	return "inet"
}
