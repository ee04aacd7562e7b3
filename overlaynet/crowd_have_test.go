package overlaynet_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/overlaynet"
)

// compare wants what the kernel has to be what the state says, thing by thing,
// as soon as the node has seen it.
func (w *throng) compare(what string) {
	w.t.Helper()
	must(w.t, w.n.Round(w.t.Context()))
	have, want := w.have(), w.want()
	w.t.Logf("%s: %d things, %d containers here", what, len(want), len(w.here))
	for i, j, told := 0, 0, 0; (i < len(have) || j < len(want)) && told < 40; {
		switch {
		case j == len(want) || i < len(have) && have[i] < want[j]:
			w.t.Errorf("%s: not wanted, or twice: %s", what, have[i])
			i, told = i+1, told+1
		case i == len(have) || have[i] > want[j]:
			w.t.Errorf("%s: missing: %s", what, want[j])
			j, told = j+1, told+1
		default:
			i, j = i+1, j+1
		}
	}
}

type jsonLink struct {
	Ifname, Master string
	Addrs          []struct{ Local string } `json:"addr_info"`
	MTU            int
	Linkinfo       struct {
		Data struct {
			ID, Port int
			Local    string
			Learning bool
		} `json:"info_data"`
	}
}

type jsonEntry struct {
	Dst, Dev, Lladdr, Mac, Ifname, Master, Gateway string
	Flags                                          []string
}

func readJSON[T any](w *throng, args ...string) (out []T) {
	must(w.t, json.Unmarshal([]byte(run(w.t, args[0], args[1:]...)), &out))
	return out
}

// have is what the kernel has, a line for each thing.
func (w *throng) have() (out []string) {
	say := func(format string, a ...any) { out = append(out, fmt.Sprintf(format, a...)) }
	mark, used := overlaynet.Mark(w.n.dir), w.used()
	of := map[string]string{mark + "mesh": "mesh"} // by link: the network's name
	for _, l := range readJSON[jsonLink](w, "ip", "-j", "addr", "show", "type", "bridge") {
		for _, a := range l.Addrs {
			var x, y int
			if n, _ := fmt.Sscanf(a.Local, "10.%d.%d.1", &x, &y); n == 2 {
				of[l.Ifname] = fmt.Sprint("net", (x-80)*100+y)
			}
		}
		if name := of[l.Ifname]; used[name] || strings.HasPrefix(l.Ifname, mark) && w.nets[name] == nil {
			say("bridge %s", name) // without containers it may stay as long as its network
		}
	}
	for _, l := range readJSON[jsonLink](w, "ip", "-j", "-d", "link", "show", "type", "vxlan") {
		if l.Master != "" {
			of[l.Ifname] = of[l.Master]
		}
		d := l.Linkinfo.Data
		say("tunnel %s vni %d udp %d from %s learning %v mtu %d", of[l.Ifname], d.ID, d.Port, d.Local, d.Learning, l.MTU)
	}
	for _, e := range readJSON[jsonEntry](w, "ip", "-4", "-j", "neigh", "show", "nud", "permanent") {
		say("neighbour %s %s %s", of[e.Dev], e.Dst, e.Lladdr)
	}
	for _, e := range readJSON[jsonEntry](w, "bridge", "-j", "fdb", "show") {
		switch {
		case e.Dst != "":
			say("way %s %s %s", of[e.Ifname], e.Mac, e.Dst)
		case e.Master != "" && slices.Contains(e.Flags, "sticky"):
			say("port %s %s", of[e.Master], e.Mac)
		}
	}
	for _, e := range readJSON[jsonEntry](w, "ip", "-4", "-j", "route", "show", "table", "all", "proto", "68") {
		say("route %s by %s", e.Dst, e.Gateway)
	}
	w.haveRules(of, say)
	slices.Sort(out)
	return out
}

type jsonRules struct {
	Nftables []struct {
		Rule *struct {
			Chain string
			Expr  []struct {
				Dnat *struct {
					Addr json.RawMessage
					Port int
				}
			}
		}
		Map, Set *struct {
			Name string
			Elem []json.RawMessage
		}
	}
}

func (w *throng) haveRules(of map[string]string, say func(string, ...any)) {
	var all jsonRules
	must(w.t, json.Unmarshal([]byte(run(w.t, "nft", "-j", "list", "table", "inet", "dhow_"+overlaynet.Mark(w.n.dir)[2:])), &all))
	pools := map[string][]string{}
	for _, x := range all.Nftables {
		if x.Rule == nil {
			continue
		}
		for _, e := range x.Rule.Expr {
			if e.Dnat != nil {
				pools[x.Rule.Chain] = append(pools[x.Rule.Chain], backends(w, e.Dnat.Addr, e.Dnat.Port)...)
			}
		}
	}
	for _, x := range all.Nftables {
		if x.Map != nil {
			for _, raw := range x.Map.Elem {
				w.haveLead(x.Map.Name, raw, pools, of, say)
			}
		}
		if x.Set != nil && (x.Set.Name == "self4" || x.Set.Name == "mesh_in4") {
			for _, raw := range x.Set.Elem {
				var e struct{ Concat []any }
				must(w.t, json.Unmarshal(raw, &e))
				say("%s %v", map[string]string{"self4": "self", "mesh_in4": "inlet"}[x.Set.Name], e.Concat[0])
			}
		}
	}
}

// haveLead is an element of a map that leads to a pool.
func (w *throng) haveLead(name string, raw json.RawMessage, pools map[string][]string, of map[string]string, say func(string, ...any)) {
	var pair [2]json.RawMessage
	if name != "vip4" && name != "any4" {
		return
	}
	must(w.t, json.Unmarshal(raw, &pair))
	var key struct{ Concat []any }
	var to struct{ Goto, Jump struct{ Target string } }
	must(w.t, json.Unmarshal(pair[0], &key))
	must(w.t, json.Unmarshal(pair[1], &to))
	pool := pools[to.Goto.Target+to.Jump.Target]
	if name == "any4" {
		say("published %v %v", key.Concat[1], pool)
		return
	}
	say("virtual %s %s %v", of[fmt.Sprint(key.Concat[0])], key.Concat[1], pool)
}

// backends of a translation, sorted: one address, or a map from numbers.
func backends(w *throng, raw json.RawMessage, port int) (out []string) {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		if port != 0 {
			one = fmt.Sprintf("%s:%d", one, port)
		}
		return []string{one}
	}
	var m struct {
		Map struct {
			Data struct{ Set [][2]json.RawMessage }
		}
	}
	must(w.t, json.Unmarshal(raw, &m))
	for _, kv := range m.Map.Data.Set {
		var c struct{ Concat []any }
		if json.Unmarshal(kv[1], &one) != nil {
			must(w.t, json.Unmarshal(kv[1], &c))
			one = fmt.Sprintf("%v:%v", c.Concat[0], c.Concat[1])
		}
		out = append(out, one)
	}
	slices.Sort(out)
	if len(out) == 512 { // by the client's address: many parts for each
		out = slices.Compact(out)
	}
	return out
}
