package schedule

import "github.com/dhow-project/dhow/stack"

// host is a node and what its tasks take. Without node it is only known from tasks.
type host struct {
	id      string
	node    *stack.Node
	pos     int // in Cluster.hosts
	all     int // tasks
	tasks   int32
	cpu     int64
	memory  int64
	generic map[string]int64
	ports   map[hostPort]int
	images  map[string]bool
}

// take counts one task (by 1) or gives back what it took (by -1).
func (h *host) take(n *need, by int64) {
	h.all += int(by)
	h.cpu += by * n.cpu
	h.memory += by * n.memory
	for _, g := range n.generic {
		if h.generic == nil {
			h.generic = map[string]int64{}
		}
		h.generic[g.kind] += by * g.n
	}
	for _, p := range n.ports {
		if h.ports == nil {
			h.ports = map[hostPort]int{}
		}
		if h.ports[p] += int(by); h.ports[p] == 0 {
			delete(h.ports, p)
		}
	}
}

// taken says whether a task of the host has a port that conflicts with p.
func (h *host) taken(p hostPort) bool {
	if p.owner == "" && h.ports[p] > 0 {
		return true
	}
	for o := range h.ports {
		if o.conflicts(p) {
			return true
		}
	}
	return false
}

// changes is a journal of hosts whose tests may come out differently than
// before. Whoever keeps results about hosts reads on from where it was.
type changes struct {
	base uint64 // number of the first entry of list
	list []int  // positions of hosts
	set  uint64 // grows when all results about all hosts are void
}

func (j *changes) touch(h *host) {
	if h.pos < 0 {
		return
	}
	if len(j.list) >= maxChanges {
		j.base += uint64(len(j.list))
		j.list = j.list[:0]
	}
	j.list = append(j.list, h.pos)
}

// renew voids everything.
func (j *changes) renew() {
	j.set++
	j.base += uint64(len(j.list)) + 1
	j.list = j.list[:0]
}

// now is the number of the next entry.
func (j *changes) now() uint64 { return j.base + uint64(len(j.list)) }

// since returns the hosts that changed after a reading at now; false when that is too long ago.
func (j *changes) since(seen uint64) ([]int, bool) {
	if seen < j.base {
		return nil, false
	}
	return j.list[seen-j.base:], true
}

// maxChanges bounds the journal; who lags further behind starts over.
const maxChanges = 1 << 16
