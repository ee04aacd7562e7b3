package overlaynet

// lately remembers the free host ports that stopped sandboxes had, so that a
// container that is started again is found where it was, as long as nobody
// took the port meanwhile.
type lately struct {
	ports map[string][]formerPort // by sandbox ID
	order []string                // oldest first
}

type formerPort struct {
	proto string
	port  uint16 // in the container
	host  uint16
}

const latelyMost = 1024 // sandboxes; removed ones are not told apart from stopped ones

func (l *lately) note(id string, c claim) {
	if !c.free || len(c.fronts) == 0 {
		return
	}
	if l.ports == nil {
		l.ports = map[string][]formerPort{}
	}
	if _, ok := l.ports[id]; !ok {
		l.order = append(l.order, id)
	}
	l.ports[id] = append(l.ports[id], formerPort{c.fronts[0].Protocol, c.port, c.fronts[0].Port})
	if len(l.order) > latelyMost {
		delete(l.ports, l.order[0])
		l.order = l.order[1:]
	}
}

// take returns, once, the host port that the wish had.
func (l *lately) take(id string, w wish) (uint16, bool) {
	list := l.ports[id]
	for i, p := range list {
		if p.proto == w.proto && p.port == w.port && (w.first == 0 || p.host >= w.first && p.host <= w.last) {
			l.ports[id] = append(list[:i:i], list[i+1:]...)
			return p.host, true
		}
	}
	return 0, false
}
