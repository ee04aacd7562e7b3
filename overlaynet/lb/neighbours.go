package lb

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sort"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// A packet must pass every forward chain of the host. Docker, ufw and the
// like leave one whose policy is to drop, and firewalld one that rejects: no
// rule in our own table can overrule that. So we do in their chain what
// Docker does there for its own bridges: two rules for each of ours, marked
// with our table's name, at the top. What may really pass is decided in our
// own table, as before.

// patterns returns the names of our bridges as iptables would write them: one
// for all those that carry our mark, and those that a user has named.
func (m model) patterns(mark string) (out []string) {
	for _, s := range m.segments {
		name := s.Bridge
		if strings.HasPrefix(name, mark) {
			name = mark + "b+"
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	if m.inbound.Mesh != "" { // what is for other nodes' tasks passes from the uplink to it
		out = append(out, m.inbound.Mesh)
	}
	sort.Strings(out)
	return out
}

// meetLocked makes the chains of others let our bridges through, or with no
// bridges left takes our rules out again.
func (r *Rules) meetLocked() error {
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	defer c.CloseLasting()
	patterns := r.model.patterns(r.mark)
	chains, err := c.ListChains()
	if err != nil {
		return fmt.Errorf("list chains: %w", err)
	}
	for _, ch := range chains {
		if ch.Table.Name == r.table.Name && ch.Table.Family == r.table.Family || !forwards(ch) {
			continue
		}
		want := patterns
		if !closes(ch) {
			want = nil
		}
		if err := r.letThroughLocked(c, ch, want); err != nil {
			return fmt.Errorf("chain %s of table %s: %w", ch.Name, ch.Table.Name, err)
		}
	}
	if r.warnings, err = doorWarnings(c, chains, r.model.inbound); err != nil {
		return err
	}
	if len(patterns) > 0 {
		r.warnings = append(r.warnings, legacyWarnings(patterns)...)
	}
	if err := r.zonesLocked(); err != nil {
		r.warnings = append(r.warnings, fmt.Sprintf("%v: of a client's connections from one port to several nodes, one may fail", err))
	}
	return nil
}

func forwards(ch *nftables.Chain) bool {
	return ch.Hooknum != nil && *ch.Hooknum == *nftables.ChainHookForward && ch.Type == nftables.ChainTypeFilter &&
		(ch.Table.Family == nftables.TableFamilyIPv4 || ch.Table.Family == nftables.TableFamilyIPv6 || ch.Table.Family == nftables.TableFamilyINet)
}

// closes tells whether the chain stops what none of its rules lets through.
func closes(ch *nftables.Chain) bool {
	return ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop ||
		ch.Table.Name == "firewalld" && strings.HasPrefix(ch.Name, "filter_FORWARD") && !strings.Contains(ch.Name, "POLICIES")
}

// letThroughLocked makes our rules in a chain of others those for want.
func (r *Rules) letThroughLocked(c *nftables.Conn, ch *nftables.Chain, want []string) error {
	rules, err := c.GetRules(ch.Table, ch)
	if err != nil {
		return err
	}
	var have []string
	changed := false
	missing := map[string]bool{}
	for _, p := range want {
		missing["in "+p], missing["out "+p] = true, true
	}
	for _, x := range rules {
		tag, ours := strings.CutPrefix(tagIn(x.UserData), r.table.Name+" ")
		switch {
		case !ours:
		case missing[tag]:
			missing[tag] = false
			have = append(have, tag)
		default:
			changed = true
			if err := c.DelRule(&nftables.Rule{Table: ch.Table, Chain: ch, Handle: x.Handle}); err != nil {
				return err
			}
		}
	}
	for _, p := range want {
		for _, way := range []string{"in ", "out "} {
			if slices.Contains(have, way+p) {
				continue
			}
			changed = true
			c.InsertRule(&nftables.Rule{Table: ch.Table, Chain: ch,
				Exprs:    rule(onLink(way == "in ", p), &expr.Counter{}, verdict(expr.VerdictAccept)),
				UserData: userdata.AppendString(nil, userdata.TypeComment, r.table.Name+" "+way+p)})
		}
	}
	if !changed {
		return nil
	}
	r.writes.Add(1)
	r.log.Info("packet filter: forwarding by another program's chain is closed; our bridges are let through there", "table", ch.Table.Name, "chain", ch.Name, "bridges", want)
	return c.Flush()
}

// onLink matches a link by name; "x+" matches every name that begins with x.
func onLink(in bool, pattern string) []expr.Any {
	data := ifname(pattern)
	if prefix, any := strings.CutSuffix(pattern, "+"); any {
		data = []byte(prefix)
	}
	key := oifname(reg1)
	if in {
		key = iifname(reg1)
	}
	return []expr.Any{key, &expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: data}}
}

// legacyWarnings looks at the older kind of iptables, whose rules nftables
// does not see, and says what to type when it is in the way.
func legacyWarnings(patterns []string) (out []string) {
	for _, x := range []struct{ file, tool string }{
		{"/proc/thread-self/net/ip_tables_names", "iptables-legacy"},
		{"/proc/thread-self/net/ip6_tables_names", "ip6tables-legacy"},
	} {
		b, err := os.ReadFile(x.file)
		if err != nil || !slices.Contains(strings.Fields(string(b)), "filter") {
			continue
		}
		rules, err := exec.Command(x.tool, "-w", "5", "-S", "FORWARD").Output() //nolint:noctx // -w bounds it
		if err != nil || !strings.Contains(string(rules), "-P FORWARD DROP") {
			continue
		}
		var fix []string
		for _, p := range patterns {
			for _, way := range []string{"-i", "-o"} {
				if !strings.Contains(string(rules), way+" "+p+" -j ACCEPT") {
					fix = append(fix, fmt.Sprintf("%s -I FORWARD %s %s -j ACCEPT", x.tool, way, p))
				}
			}
		}
		if fix != nil {
			out = append(out, fmt.Sprintf("%s drops what is forwarded: containers do not reach the outside, nor it them. To let them: %s", x.tool, strings.Join(fix, "; ")))
		}
	}
	return out
}

// Warnings says what on this host stands in the way, as of the last Check.
func (r *Rules) Warnings() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.warnings)
}
