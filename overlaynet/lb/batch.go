package lb

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// batch collects the messages of one transaction, or, with a picture, what
// they would make. What is written comes in an order in which the kernel takes
// it, whatever the order of the calls: elements go, chains go, chains and rules
// come, elements come.
type batch struct {
	c    *nftables.Conn
	t    *nftables.Table
	host string   // its name
	into *picture // nil: the messages are sent
	err  error
	any  bool // there are messages

	gone  elements
	drops []*nftables.Chain
	later []func() // chains and rules that come
	fresh elements
}

// elements of sets, by the name of the set.
type elements struct {
	sets []*nftables.Set
	of   map[string][]nftables.SetElement
}

func (l *elements) add(s *nftables.Set, e []nftables.SetElement) {
	if l.of == nil {
		l.of = map[string][]nftables.SetElement{}
	}
	if _, known := l.of[s.Name]; !known {
		l.sets = append(l.sets, s)
	}
	l.of[s.Name] = append(l.of[s.Name], e...)
}

// perMessage elements of at most 250 bytes fit into the 64 KiB of a message's
// attribute. An even number keeps the two ends of a range together.
const perMessage = 200

// each calls f with as many elements as go into one message.
func (l *elements) each(f func(*nftables.Set, []nftables.SetElement) error) error {
	for _, s := range l.sets {
		for rest := l.of[s.Name]; len(rest) > 0; {
			n := min(perMessage, len(rest))
			if err := f(s, rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
	}
	return nil
}

func (b *batch) note(err error) {
	if b.err == nil {
		b.err = err
	}
}

// finish writes what was collected.
func (b *batch) finish() error {
	if b.into == nil {
		b.note(b.gone.each(b.c.SetDeleteElements))
	}
	for _, ch := range b.drops {
		b.c.FlushChain(ch)
		b.c.DelChain(ch)
	}
	for _, f := range b.later {
		f()
	}
	if b.into == nil {
		b.note(b.fresh.each(b.c.SetAddElements))
	}
	return b.err
}

func (b *batch) addChain(ch *nftables.Chain) {
	b.any = true
	b.later = append(b.later, func() {
		if b.into != nil {
			b.into.chain(ch)
		} else {
			b.c.AddChain(ch)
		}
	})
}

func (b *batch) flushChain(ch *nftables.Chain) {
	b.any = true
	b.later = append(b.later, func() { b.c.FlushChain(ch) })
}

func (b *batch) dropChain(ch *nftables.Chain) {
	b.any = true
	b.drops = append(b.drops, ch)
}

// addRule adds a rule with its tag as comment: rules cannot be changed, only
// replaced, so tags in order say all about a chain. The map, if there is one,
// is the rule's own.
func (b *batch) addRule(ch *nftables.Chain, tag string, exprs []expr.Any, own ...anonymous) {
	b.any = true
	b.later = append(b.later, func() {
		if b.into != nil {
			b.into.rule(ch.Name, tag)
			return
		}
		for _, m := range own { // nobody can edit it: the rule's tag tells what it holds
			b.note(b.c.AddSet(m.set, nil))
			filled := *m.set
			filled.Anonymous = false // the library edits none of those; the kernel does until a rule has it
			each := elements{}
			each.add(&filled, m.elems)
			b.note(each.each(b.c.SetAddElements))
			m.lookup.SetName, m.lookup.SetID = m.set.Name, m.set.ID
		}
		b.c.AddRule(&nftables.Rule{Table: b.t, Chain: ch, Exprs: exprs, UserData: userdata.AppendString(nil, userdata.TypeComment, tag)})
	})
}

// anonymous is a map without a name, for one lookup of a rule.
type anonymous struct {
	set    *nftables.Set
	elems  []nftables.SetElement
	lookup *expr.Lookup
}

func (b *batch) addSet(s *nftables.Set) {
	b.any = true
	if b.into != nil {
		b.into.set(s.Name)
		return
	}
	b.later = append(b.later, func() { b.note(b.c.AddSet(s, nil)) })
}

// edit is whether elements come or go.
type edit bool

const (
	come edit = true
	goes edit = false
)

func (b *batch) edit(s *nftables.Set, do edit, elems ...nftables.SetElement) {
	b.any = true
	switch {
	case b.into != nil:
		for _, e := range elems {
			b.into.element(s.Name, e)
		}
	case do == come:
		b.fresh.add(s, elems)
	default:
		b.gone.add(s, elems)
	}
}

// tagOf is a short digest of a rule's content.
func tagOf(content any) string {
	h := sha256.New()
	if exprs, ok := content.([]expr.Any); ok {
		for _, e := range exprs {
			fmt.Fprintf(h, "%T%+v\n", e, e)
		}
	} else {
		fmt.Fprintf(h, "%v", content)
	}
	return "dhow " + hex.EncodeToString(h.Sum(nil)[:5])
}
