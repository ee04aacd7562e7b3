package overlaynet_test

import (
	"fmt"
	"slices"
	"strings"

	mdns "github.com/miekg/dns"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/stack"
)

// reachable tells whether the state says that a container of another node can be reached.
func (w *throng) reachable(e stack.Endpoint) bool { return e.Node != "n1" && e.Up && !w.down[e.Node] }

// placed tells whether there is a way to a container of another node: from when
// it has an address until that is given back, whether it runs or not.
func placed(e stack.Endpoint) bool { return e.Node != "n1" }

func mac(addr string) string { return overlaynet.MAC(parseAddr(addr)) }

func nodeAddr(prefix, node string) string { return prefix + strings.TrimPrefix(node, "n") }

// serving are the addresses of a service in a network: the ready ones, or all.
func (w *throng) serving(a *area, service string) (all []string) {
	var ready []string
	note := func(addr string, is bool) {
		if all = append(all, addr); is {
			ready = append(ready, addr)
		}
	}
	for _, e := range a.tasks {
		if e.Service == service && w.reachable(e) {
			note(e.IPv4, e.Ready)
		}
	}
	for _, r := range w.here {
		for _, at := range r.Attachments {
			if at.Network == a.def.Name && r.PortGroup == service {
				note(at.Given4, r.Ready)
			}
		}
	}
	if len(ready) > 0 {
		all = ready
	}
	slices.Sort(all)
	return all
}

// used tells which networks have a container here.
func (w *throng) used() map[string]bool {
	out := map[string]bool{}
	for _, r := range w.here {
		for _, at := range r.Attachments {
			out[at.Network] = true
		}
	}
	return out
}

// want is what the kernel is to have, a line for each thing.
func (w *throng) want() (out []string) {
	say := func(format string, a ...any) { out = append(out, fmt.Sprintf(format, a...)) }
	for name := range w.used() {
		a := w.nets[name]
		say("bridge %s", name)
		tunnel := false
		for _, e := range a.tasks {
			if placed(e) {
				tunnel = true
				say("neighbour %s %s %s", name, e.IPv4, mac(e.IPv4))
				say("port %s %s", name, mac(e.IPv4))
				say("way %s %s %s", name, mac(e.IPv4), nodeAddr("192.0.2.", e.Node))
			}
		}
		if tunnel {
			say("tunnel %s vni %d udp 4789 from 192.0.2.1 learning false mtu 1450", name, a.def.VNI)
		}
		for _, s := range a.services {
			if s.IPv4 != "" {
				say("virtual %s %s %v", name, s.IPv4, w.serving(a, s.Service))
			}
		}
	}
	w.wantMesh(say)
	w.wantLocals(say)
	slices.Sort(out)
	return out
}

func (w *throng) wantMesh(say func(string, ...any)) {
	say("tunnel mesh vni 4096 udp 4789 from 192.0.2.1 learning false mtu 1450")
	for i := 2; i <= crowdNodes; i++ {
		on := fmt.Sprint("10.255.0.", i)
		say("neighbour mesh %s %s", on, mac(on))
		say("way mesh %s 192.0.2.%d", mac(on), i)
		say("route default by %s", on)
	}
	for i := range crowdPublished {
		name := fmt.Sprint("net", i)
		service := (&area{index: i}).service(0)
		var all, ready []string
		note := func(addr string, is bool) {
			if all = append(all, addr+":80"); is {
				ready = append(ready, addr+":80")
			}
		}
		for _, r := range w.here {
			if r.PortGroup == service && len(r.Sandbox.Ports) > 0 {
				note(r.Attachments[0].Given4, r.Ready)
			}
		}
		if a := w.nets[name]; a != nil && a.services[service].Service != "" {
			for _, e := range a.tasks {
				if e.Service == service && w.reachable(e) {
					note(e.IPv4, e.Ready)
				}
				if e.Service == service && placed(e) {
					say("route %s by %s", e.IPv4, nodeAddr("10.255.0.", e.Node))
				}
			}
		}
		if len(ready) > 0 {
			all = ready
		}
		if slices.Sort(all); len(all) > 0 {
			say("published %d %v", 20000+i, all)
		}
	}
}

func (w *throng) wantLocals(say func(string, ...any)) {
	for _, r := range w.here {
		for i, at := range r.Attachments {
			a := w.nets[at.Network]
			if len(r.Sandbox.Ports) > 0 || a.services[r.PortGroup].IPv4 != "" {
				say("self %s", at.Given4)
			}
			if len(r.Sandbox.Ports) > 0 && i == 0 && w.publishes(r.PortGroup) {
				say("inlet %s", at.Given4)
			}
		}
	}
}

func (w *throng) publishes(service string) bool {
	for i := range crowdPublished {
		if a := w.nets[fmt.Sprint("net", i)]; a != nil && a.service(0) == service {
			return a.services[service].Service != ""
		}
	}
	return false
}

// theWorld is what the host's resolver answers: it is asked for names with dots
// that are none of ours.
const theWorld = "NOERROR 192.0.2.53"

// ask asks from inside of a few containers for everything in their networks,
// and for something in another.
func (w *throng) ask() {
	for range 6 {
		id, _ := pick(w, w.here)
		r, want := w.here[id], map[string]string{}
		for _, at := range r.Attachments {
			w.wantNames(w.nets[at.Network], want)
		}
		for name, a := range w.nets {
			if task, ok := pick(w, a.tasks); ok && !slices.ContainsFunc(r.Attachments, func(at stack.Attachment) bool { return at.Network == name || a.tasks[task].ID == id }) {
				want[bareName(a.service(0))], want["tasks."+bareName(a.service(1))] = "NXDOMAIN", theWorld
				if strings.HasPrefix(a.tasks[task].Service, fmt.Sprintf("s%d/", a.index)) { // else it may be in a network of the asker too
					want[task], want[task+"."+name] = "NXDOMAIN", theWorld
				}
				want[bareName(a.service(0))+"."+name] = theWorld
			}
		}
		must(w.t, in(w.t, r.NetNS, func() error {
			for name, expected := range want {
				q := new(mdns.Msg)
				q.SetQuestion(name+".", mdns.TypeA)
				m, _, err := new(mdns.Client).Exchange(q, r.Nameservers[0]+":53")
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				var got []string
				for _, rr := range m.Answer {
					got = append(got, rr.(*mdns.A).A.String())
				}
				slices.Sort(got)
				if s := mdns.RcodeToString[m.Rcode] + strings.TrimSuffix(" "+strings.Join(got, " "), " "); s != expected {
					w.t.Errorf("%s asks for %s: got %q, want %q", id, name, s, expected)
				}
			}
			return nil
		}))
	}
}

func (w *throng) wantNames(a *area, want map[string]string) {
	answer := func(list ...string) string { return strings.TrimSuffix("NOERROR "+strings.Join(list, " "), " ") }
	for j := range crowdServices {
		service := a.service(j)
		tasks := w.serving(a, service)
		s, there := a.services[service]
		all, of := answer(tasks...), answer(tasks...)
		if s.IPv4 != "" {
			all = answer(s.IPv4)
		} else if !there && len(tasks) == 0 {
			all, of = "NXDOMAIN", theWorld
		}
		want[bareName(service)], want["tasks."+bareName(service)], want[bareName(service)+"."+a.def.Name] = all, of, all
		if all == "NXDOMAIN" {
			want[bareName(service)+"."+a.def.Name] = theWorld
		}
	}
	for id, e := range a.tasks {
		want[id+"."+a.def.Name] = theWorld
		if _, here := w.here[id]; here || w.reachable(e) {
			want[id+"."+a.def.Name] = answer(e.IPv4)
		}
	}
}
