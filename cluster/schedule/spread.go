package schedule

// spread is the hosts as a tree of branches, by the service's placement
// preferences, outermost first. Each level goes to its branch with the fewest
// tasks of the service, among those where some host fits.
type spread struct {
	root *branch
	leaf []*branch // by position
	slot []int     // by position: in the leaf's scores
	live []int     // by position: tasks that the branches have counted
}

// branch is one value of a label within the branch above.
type branch struct {
	up     *branch
	place  int // in up.scores
	live   int
	kids   []*branch // by value
	hosts  []int     // positions, of the innermost
	scores minima    // of kids: their tasks; of hosts: as the index says
}

func newSpread(x *index) *spread {
	hosts := x.w.c.hosts
	s := &spread{root: &branch{}, leaf: make([]*branch, len(hosts)), slot: make([]int, len(hosts)), live: make([]int, len(hosts))}
	t := x.w.c.branches(&x.w)
	leaves := map[*tree]*branch{}
	s.root.grow(t, leaves)
	for i, h := range hosts {
		b := leaves[t.find(x.w.need.spread, h)]
		s.leaf[i], s.slot[i] = b, len(b.hosts)
		s.live[i] = x.live(h)
		b.hosts = append(b.hosts, i)
	}
	s.root.fill(x)
	return s
}

// grow makes the branches below b as t has them.
func (b *branch) grow(t *tree, leaves map[*tree]*branch) {
	b.live = t.live
	if len(t.names) == 0 {
		leaves[t] = b
		return
	}
	for i, name := range t.names {
		kid := &branch{up: b, place: i}
		kid.grow(t.kids[name], leaves)
		b.kids = append(b.kids, kid)
	}
}

// fill computes all scores below b.
func (b *branch) fill(x *index) {
	b.scores = newMinima(max(len(b.kids), len(b.hosts)))
	scores := b.scores.scores()
	for i, kid := range b.kids {
		kid.fill(x)
		scores[i] = kid.score()
	}
	for i, pos := range b.hosts {
		scores[i] = x.value(x.w.c.hosts[pos])
	}
	b.scores.settle()
}

// score is the branch's in the one above.
func (b *branch) score() uint64 {
	if _, least := b.scores.least(); least == never {
		return never
	}
	return uint64(b.live)
}

// set gives a host another score and number of tasks.
func (s *spread) set(pos int, score uint64, live int) {
	b, more := s.leaf[pos], live-s.live[pos]
	s.live[pos] = live
	b.scores.set(s.slot[pos], score)
	b.live += more
	for ; b.up != nil; b = b.up {
		score := b.score()
		if more == 0 && b.up.scores.get(b.place) == score {
			return
		}
		b.up.live += more
		b.up.scores.set(b.place, score)
	}
}

// first is the position of the host to take; false when none fits.
func (s *spread) first() (int, bool) {
	b := s.root
	for len(b.kids) > 0 {
		i, least := b.scores.least()
		if least == never {
			return 0, false
		}
		b = b.kids[i]
	}
	i, least := b.scores.least()
	if least == never {
		return 0, false
	}
	return b.hosts[i], true
}
