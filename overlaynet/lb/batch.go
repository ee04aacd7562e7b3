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
// they would make.
type batch struct {
	c    *nftables.Conn
	t    *nftables.Table
	into *picture // nil: the messages are sent
	err  error
	any  bool // there are messages
}

func (b *batch) note(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *batch) addChain(ch *nftables.Chain) {
	if b.into != nil {
		b.into.chain(ch)
		return
	}
	b.any = true
	b.c.AddChain(ch)
}

func (b *batch) flushChain(ch *nftables.Chain) {
	b.any = true
	b.c.FlushChain(ch)
}

func (b *batch) dropChain(ch *nftables.Chain) {
	b.flushChain(ch)
	b.c.DelChain(ch)
}

// addRule adds a rule with its tag as comment: rules cannot be changed, only
// replaced, so tags in order say all about a chain.
func (b *batch) addRule(ch *nftables.Chain, tag string, exprs []expr.Any) {
	if b.into != nil {
		b.into.rule(ch.Name, tag)
		return
	}
	b.any = true
	b.c.AddRule(&nftables.Rule{Table: b.t, Chain: ch, Exprs: exprs, UserData: userdata.AppendString(nil, userdata.TypeComment, tag)})
}

func (b *batch) addSet(s *nftables.Set, elems []nftables.SetElement) {
	if b.into == nil {
		b.note(b.c.AddSet(s, elems))
	} else if !s.Anonymous { // those belong to their rule, whose tag tells
		b.into.set(s.Name)
	}
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
		b.note(b.c.SetAddElements(s, elems))
	default:
		b.note(b.c.SetDeleteElements(s, elems))
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
