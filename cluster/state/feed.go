package state

import "sort"

// Touched names a record that a command made, changed or deleted, and whom that
// concerns. One that moves from a node to another is told twice, once for each.
type Touched struct {
	Table Table
	Key   string // of the record; of a service: ServiceKey
	Stack string // that it belongs to; "": none
	Node  string // that a task, a volume or an endpoint is on, or the node itself; "": none

	// Networks are those that a task or an endpoint has or had an address in, or
	// a service its tasks, by their real names. Some may be there twice.
	Networks []string
	Life     bool // of a node: it is new, gone, down or back
	Outward  bool // of a service: it is new or gone, or has begun or ceased to publish ports on all nodes
}

// feedLimit is how many touched records are remembered: what a reader that keeps
// up needs, with room for one that was busy for some commands of the largest size.
const feedLimit = 64 << 10

// history remembers what the last commands touched. It is in memory only and no
// part of the state: who has missed too much looks at everything.
type history struct {
	base    uint64 // nothing is known of commands up to this index
	now     uint64 // index of the last command
	batches []batch
	size    int // records in batches
}

// batch is what one command touched.
type batch struct {
	index   uint64
	touched []Touched
}

func (f *history) add(index uint64, touched []Touched) {
	f.now = index
	if len(touched) == 0 {
		return
	}
	f.batches = append(f.batches, batch{index, touched})
	f.size += len(touched)
	drop := 0
	for f.size > feedLimit && drop < len(f.batches)-1 { // the newest stays, however large: a reader that keeps up has it
		f.size -= len(f.batches[drop].touched)
		f.base = f.batches[drop].index
		f.batches[drop] = batch{}
		drop++
	}
	f.batches = f.batches[drop:]
}

// reset forgets all, after the state was replaced by one of this index.
func (f *history) reset(index uint64) { *f = history{base: index, now: index} }

// Since returns what the commands after index touched, in their order, and the
// index of the last command. It is false when that is not known any more, or
// when index is of a state that was replaced: then the reader looks at
// everything. A Snapshot taken after Since has at least what Since told of.
func (s *Store) Since(index uint64) (touched []Touched, now uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.feed.since(index)
}

// Follow is Since with the state of that moment: it has what the commands did
// that were told of, and nothing of later ones.
func (s *Store) Follow(index uint64) (touched []Touched, now *Snapshot, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	touched, _, ok = s.feed.since(index)
	return touched, &Snapshot{tables: s.tables}, ok
}

func (f *history) since(index uint64) (touched []Touched, now uint64, ok bool) {
	if index < f.base || index > f.now {
		return nil, f.now, false
	}
	from := sort.Search(len(f.batches), func(i int) bool { return f.batches[i].index > index })
	for _, b := range f.batches[from:] {
		touched = append(touched, b.touched...)
	}
	return touched, f.now, true
}
