package lb

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// Check compares the table in the kernel with what should be there, rule by
// rule and element by element, and writes it anew when they differ. Tracked
// connections are not touched by that. It also looks after our rules in the
// chains of others.
func (r *Rules) Check(context.Context) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.built {
		return false, nil
	}
	if err := r.meetLocked(); err != nil {
		return false, fmt.Errorf("packet filter: beside other programs' rules: %w", err)
	}
	m := r.model
	m.bridged = seesBridges() // it may have been loaded meanwhile
	want := &batch{t: r.table, into: newPicture()}
	want.content(m)
	if err := want.finish(); err != nil {
		return false, fmt.Errorf("packet filter: compare: %w", err)
	}
	have, err := r.seeLocked()
	if err != nil {
		return false, fmt.Errorf("packet filter: read: %w", err)
	}
	what := want.into.differs(have)
	if what == "" {
		return false, nil
	}
	r.log.Warn("packet filter: the table had been changed by somebody else; writing it anew", "table", r.table.Name, "at", what)
	if err := r.rebuildLocked(m); err != nil {
		return false, fmt.Errorf("repair: %w", err)
	}
	return true, nil
}

// picture is the content of a table in a form that can be compared: lines by
// the name of their chain ("chain forward") or set ("set any4").
type picture struct{ lines map[string][]string }

func newPicture() *picture { return &picture{map[string][]string{}} }

func (p *picture) chain(ch *nftables.Chain) {
	line := "chain"
	if ch.Hooknum != nil && ch.Priority != nil && ch.Policy != nil {
		line = fmt.Sprintf("hook %d priority %d policy %d", *ch.Hooknum, *ch.Priority, *ch.Policy)
	}
	p.lines["chain "+ch.Name] = append(p.lines["chain "+ch.Name], line)
}

func (p *picture) rule(chain, tag string) {
	p.lines["chain "+chain] = append(p.lines["chain "+chain], tag)
}

func (p *picture) set(name string) { p.lines["set "+name] = append(p.lines["set "+name], "") }

func (p *picture) element(set string, e nftables.SetElement) {
	line := hex.EncodeToString(e.Key)
	if len(e.KeyEnd) > 0 {
		line += "-" + hex.EncodeToString(e.KeyEnd)
	}
	if e.IntervalEnd {
		line += " end"
	}
	if e.VerdictData != nil {
		line += fmt.Sprintf(": %d %s", e.VerdictData.Kind, e.VerdictData.Chain)
	} else if len(e.Val) > 0 {
		line += ": " + hex.EncodeToString(e.Val)
	}
	p.lines["set "+set] = append(p.lines["set "+set], line)
}

// differs names the first chain or set that is not alike; "" when all are.
func (p *picture) differs(have *picture) string {
	names := map[string]bool{}
	for n := range p.lines {
		names[n] = true
	}
	for n := range have.lines {
		names[n] = true
	}
	sorted := make([]string, 0, len(names))
	for n := range names {
		sorted = append(sorted, n)
	}
	sort.Strings(sorted)
	for _, n := range sorted {
		a, b := p.lines[n], have.lines[n]
		if strings.HasPrefix(n, "set ") { // in no order
			a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
		}
		if !slices.Equal(a, b) {
			return n
		}
	}
	return ""
}

// seeLocked reads the table.
func (r *Rules) seeLocked() (*picture, error) {
	c, err := nftables.New(nftables.AsLasting()) // its own: an error in a dump leaves answers behind
	if err != nil {
		return nil, err
	}
	defer c.CloseLasting()
	have := newPicture()
	chains, err := c.ListChainsOfTableFamily(r.table.Family)
	if err != nil {
		return nil, err
	}
	for _, ch := range chains {
		if ch.Table.Name != r.table.Name {
			continue
		}
		have.chain(ch)
		rules, err := c.GetRules(r.table, ch)
		if err != nil {
			return nil, err
		}
		for _, x := range rules {
			have.rule(ch.Name, tagIn(x.UserData))
		}
	}
	for _, s := range (&batch{t: r.table}).sets() {
		elems, err := c.GetSetElements(s)
		if err != nil {
			continue // it is gone: the comparison says so
		}
		have.set(s.Name)
		for _, e := range elems {
			if s.DataType == nftables.TypeVerdict {
				e.VerdictData = verdictIn(e.Val)
			}
			have.element(s.Name, e)
		}
	}
	return have, nil
}

// tagIn reads a rule's comment.
func tagIn(data []byte) string {
	if len(data) < 2 || len(data) < 2+int(data[1]) {
		return "" // somebody else's, or none
	}
	tag, _ := userdata.GetString(data, userdata.TypeComment)
	return tag
}

// verdictIn reads the attributes of a verdict: its code and chain.
func verdictIn(b []byte) *expr.Verdict {
	const code, chain = 1, 2 // NFTA_VERDICT_CODE, NFTA_VERDICT_CHAIN
	v := &expr.Verdict{}
	for len(b) >= 4 {
		n, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])&0x3fff
		if n < 4 || n > len(b) {
			break
		}
		switch {
		case kind == code && n >= 8:
			v.Kind = expr.VerdictKind(int32(binary.BigEndian.Uint32(b[4:])))
		case kind == chain:
			v.Chain = strings.TrimRight(string(b[4:n]), "\x00")
		}
		b = b[min(len(b), (n+3)&^3):]
	}
	return v
}
