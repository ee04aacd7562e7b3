package cluster

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/tests/netlab"
)

// filterTable is what is read of our table.
type filterTable struct {
	elems map[string][]any    // of sets and maps, by name
	pools map[string][]string // where chains lead, by name
}

// filter adds the facts of a host's packet filter.
func (w *world) filter(f facts, h *netlab.Host) error {
	t, err := readFilter(h)
	if err != nil {
		return err
	}
	bridges := map[string]string{} // by gateway's network
	err = netlab.Inside("/run/netns/"+h.NetNS, func() error {
		l, err := w.links()
		if err == nil {
			err = l.devices(facts{})
		}
		if err == nil {
			for i, name := range l.network {
				bridges[l.all[i].Attrs().Name] = name
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, name := range []string{"vip4", "vip6"} {
		for _, e := range t.elems[name] {
			key, target := verdict(e)
			network := bridges[text(key[0])]
			if network == "" {
				network = text(key[0]) + ", which is none"
			}
			f.add("net %s: %s leads to %s", network, text(key[1]), targets(t.pools[target]))
		}
	}
	t.ports(f)
	for _, name := range []string{"self4", "self6"} {
		for _, e := range t.elems[name] {
			f.add("self %s", text(parts(e)[0]))
		}
	}
	for _, name := range []string{"mesh_in4", "mesh_in6"} {
		for _, e := range t.elems[name] {
			p := parts(e)
			f.add("mesh: %s %s %s may be reached", text(p[1]), text(p[0]), text(p[2]))
		}
	}
	for _, name := range []string{"peers4", "peers6"} {
		for _, e := range t.elems[name] {
			f.add("tunnels take from %s", text(e))
		}
	}
	for _, e := range t.elems["mesh_marks"] {
		pair := e.([]any)
		mark := uint32(pair[1].(float64))
		f.add("mesh: mark of %s is %d", text(pair[0]), nodeOf(mark))
	}
	return nil
}

// nodeOf is the node's number in a mark, as nft prints it: in the order of the bytes in memory.
func nodeOf(mark uint32) uint32 { return (mark>>24 | mark>>8&0xff00) & 0xfff }

// ports are the published ones.
func (t *filterTable) ports(f facts) {
	for name, any := range map[string]string{"any4": "0.0.0.0", "any6": "::"} {
		for _, e := range t.elems[name] {
			key, target := verdict(e)
			f.add("port %s %s %s leads to %s", text(key[0]), any, text(key[1]), targets(t.pools[target]))
		}
	}
	for _, name := range []string{"host4", "host6"} {
		for _, e := range t.elems[name] {
			if key, target := verdict(e); target != "" { // else it is a resolver
				f.add("port %s %s %s leads to %s", text(key[1]), text(key[0]), text(key[2]), targets(t.pools[target]))
			}
		}
	}
}

// readFilter reads our table of a host.
func readFilter(h *netlab.Host) (*filterTable, error) {
	r := h.Exec("nft", "-j", "list", "ruleset")
	if err := r.Err(); err != nil {
		return nil, err
	}
	var out struct {
		Nftables []struct {
			Set, Map *struct {
				Table, Name string
				Elem        []any
			}
			Rule *struct {
				Table, Chain string
				Expr         []map[string]any
			}
		}
	}
	if err := json.Unmarshal([]byte(r.Stdout), &out); err != nil {
		return nil, fmt.Errorf("nft: %w", err)
	}
	t := &filterTable{map[string][]any{}, map[string][]string{}}
	for _, o := range out.Nftables {
		set := o.Set
		if set == nil {
			set = o.Map
		}
		if set != nil && strings.HasPrefix(set.Table, "dhow_") {
			t.elems[set.Name] = set.Elem
		}
		if o.Rule == nil || !strings.HasPrefix(o.Rule.Table, "dhow_") {
			continue
		}
		for _, x := range o.Rule.Expr {
			if to, ok := x["dnat"].(map[string]any); ok {
				t.pools[o.Rule.Chain] = append(t.pools[o.Rule.Chain], destinations(to)...)
			}
		}
	}
	return t, nil
}

// destinations are the addresses of a dnat statement, with ports if it has any.
func destinations(to map[string]any) (out []string) {
	if one, ok := to["addr"].(string); ok {
		if to["port"] != nil {
			one = net.JoinHostPort(one, text(to["port"]))
		}
		return []string{one}
	}
	choice, _ := to["addr"].(map[string]any)["map"].(map[string]any)
	set, _ := choice["data"].(map[string]any)["set"].([]any)
	for _, e := range set {
		value := e.([]any)[1]
		if p := parts(value); len(p) == 2 {
			out = append(out, net.JoinHostPort(text(p[0]), text(p[1])))
		} else {
			out = append(out, text(value))
		}
	}
	return out
}

// parts are those of a concatenation.
func parts(e any) []any {
	m, _ := e.(map[string]any)
	p, _ := m["concat"].([]any)
	return p
}

// verdict is an element of a map of verdicts: its key, and the chain that it leads to.
func verdict(e any) (key []any, target string) {
	pair := e.([]any)
	to, _ := pair[1].(map[string]any)["goto"].(map[string]any)
	if to != nil {
		target = text(to["target"])
	}
	return parts(pair[0]), target
}

func text(v any) string { return fmt.Sprint(v) }

func hasAddr(list []stack.Subnet, a netip.Addr) bool {
	for _, sn := range list {
		if p, err := netip.ParsePrefix(sn.CIDR); err == nil && p.Contains(a) {
			return true
		}
	}
	return false
}
