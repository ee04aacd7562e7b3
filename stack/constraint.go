package stack

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Operator of a placement constraint.
type Operator string

// The operators. The first two are Swarm's.
const (
	Equal     Operator = "=="
	NotEqual  Operator = "!="
	In        Operator = "in"
	NotIn     Operator = "not in"
	Exists    Operator = "exists"
	NotExists Operator = "not exists"
)

// Constraint is one placement constraint, parsed.
//
//	node.labels.zone == east
//	node.labels.zone in (east, west)
//	node.labels.ssd exists
//	service != web
//
// Keys: node.id, node.hostname, node.ip, node.role, node.platform.os,
// node.platform.arch, node.labels.NAME, engine.labels.NAME, and service, whose
// values are services of the same stack or STACK/SERVICE. Values are compared
// without regard to case, as in Swarm; so are keys, but for a label's NAME.
type Constraint struct {
	Key    string // in lower case, but for the NAME of a label
	Op     Operator
	Values []string // one of == and !=, one or more of in and not in, none of exists and not exists
}

const (
	nodeLabels   = "node.labels."
	engineLabels = "engine.labels."
	serviceKey   = "service"
)

// PlacementKeys are what a constraint or a spread can name of a node.
const PlacementKeys = "node.id, node.hostname, node.ip, node.role, node.platform.os, node.platform.arch, node.labels.NAME, engine.labels.NAME"

var plainKeys = []string{"node.id", "node.hostname", "node.ip", "node.role", "node.platform.os", "node.platform.arch"}

// ParseConstraint reads a constraint as it stands in a Compose file.
func ParseConstraint(expr string) (Constraint, error) {
	text := strings.TrimSpace(expr)
	end := strings.IndexAny(text, " \t=!")
	if end < 0 {
		return Constraint{}, fmt.Errorf("constraint %q: want KEY == VALUE, KEY != VALUE, KEY in (A, B), KEY not in (A, B), KEY exists or KEY not exists", expr)
	}
	key, err := placementKey(text[:end])
	if err != nil {
		return Constraint{}, fmt.Errorf("constraint %q: %w", expr, err)
	}
	c := Constraint{Key: key}
	if c.Op, c.Values, err = operation(strings.TrimSpace(text[end:])); err != nil {
		return Constraint{}, fmt.Errorf("constraint %q: %w", expr, err)
	}
	if err := c.check(); err != nil {
		return Constraint{}, fmt.Errorf("constraint %q: %w", expr, err)
	}
	return c, nil
}

func placementKey(key string) (string, error) {
	for _, prefix := range []string{nodeLabels, engineLabels} {
		if len(key) > len(prefix) && strings.EqualFold(key[:len(prefix)], prefix) {
			return prefix + key[len(prefix):], nil
		}
	}
	if low := strings.ToLower(key); low == serviceKey || slices.Contains(plainKeys, low) {
		return low, nil
	}
	return "", fmt.Errorf("there is no key %q; want %s or service", key, PlacementKeys)
}

// operation reads what follows the key.
func operation(text string) (Operator, []string, error) {
	for _, op := range []Operator{Equal, NotEqual} {
		if rest, ok := strings.CutPrefix(text, string(op)); ok {
			value := strings.TrimSpace(rest)
			if strings.ContainsAny(value, "=!") {
				return "", nil, fmt.Errorf("a value cannot have = or ! in it: one constraint has one comparison")
			}
			return op, []string{value}, nil
		}
	}
	if strings.HasPrefix(text, "=") {
		return "", nil, fmt.Errorf("= is not a comparison; use ==")
	}
	head, list, listed := strings.Cut(text, "(")
	switch words := strings.ToLower(strings.Join(strings.Fields(head), " ")); {
	case !listed && words == "exists":
		return Exists, nil, nil
	case !listed && (words == "not exists" || words == "!exists" || words == "! exists"):
		return NotExists, nil, nil
	case words == "in" || words == "not in":
		values, err := valueList(list, listed)
		return Operator(words), values, err
	}
	return "", nil, fmt.Errorf("%q is none of ==, !=, in (A, B), not in (A, B), exists, not exists", text)
}

func valueList(text string, open bool) ([]string, error) {
	text, closed := strings.CutSuffix(strings.TrimSpace(text), ")")
	if !open || !closed {
		return nil, fmt.Errorf("in wants its values in parentheses: in (A, B)")
	}
	var values []string
	for v := range strings.SplitSeq(text, ",") {
		v = strings.TrimSpace(v)
		if v == "" || strings.ContainsAny(v, "()=!") {
			return nil, fmt.Errorf("in wants values with commas between them: in (A, B)")
		}
		values = append(values, v)
	}
	return values, nil
}

// check finds values that the key can never have.
func (c Constraint) check() error {
	switch {
	case c.Key == serviceKey && (c.Op == Exists || c.Op == NotExists):
		return fmt.Errorf("service wants ==, !=, in or not in")
	case c.Key == serviceKey && slices.Contains(c.Values, ""):
		return fmt.Errorf("service wants the name of a service, or STACK/SERVICE")
	case c.Key == "node.role":
		for _, v := range c.Values {
			if !strings.EqualFold(v, string(RoleManager)) && !strings.EqualFold(v, string(RoleWorker)) {
				return fmt.Errorf("a node's role is %s or %s", RoleManager, RoleWorker)
			}
		}
	case c.Key == "node.ip":
		for _, v := range c.Values {
			_, errAddr := netip.ParseAddr(v)
			_, errRange := netip.ParsePrefix(v)
			if errAddr != nil && errRange != nil {
				return fmt.Errorf("%q is neither an address nor a range of addresses", v)
			}
		}
	}
	return nil
}

// String is the constraint in its plainest form; ParseConstraint reads it back.
func (c Constraint) String() string {
	switch c.Op {
	case Equal, NotEqual:
		return strings.TrimSpace(c.Key + " " + string(c.Op) + " " + c.Values[0])
	case In, NotIn:
		return c.Key + " " + string(c.Op) + " (" + strings.Join(c.Values, ", ") + ")"
	}
	return c.Key + " " + string(c.Op)
}

// OfService says whether the constraint is about the tasks on a node rather
// than about the node.
func (c Constraint) OfService() bool { return c.Key == serviceKey }

// Matches tests a node. A constraint about services says nothing about a node
// alone: it matches all.
func (c Constraint) Matches(n *Node) bool {
	if c.OfService() {
		return true
	}
	have, set := PlacementValue(c.Key, n)
	switch c.Op {
	case Exists, NotExists:
		return set == (c.Op == Exists)
	}
	return slices.ContainsFunc(c.Values, func(want string) bool { return c.equal(have, want) }) == (c.Op == Equal || c.Op == In)
}

func (c Constraint) equal(have, want string) bool {
	if c.Key == "node.ip" {
		addr, _ := netip.ParseAddr(have)
		if r, err := netip.ParsePrefix(want); err == nil {
			return r.Contains(addr)
		}
		ip, err := netip.ParseAddr(want)
		return err == nil && ip == addr
	}
	return strings.EqualFold(have, want)
}

// PlacementValue is what a node has under a key of PlacementKeys (as
// ParseConstraint writes it), and whether it has anything.
func PlacementValue(key string, n *Node) (string, bool) {
	if label, ok := strings.CutPrefix(key, nodeLabels); ok {
		v, set := n.Labels[label]
		return v, set
	}
	if label, ok := strings.CutPrefix(key, engineLabels); ok {
		v, set := n.EngineLabels[label]
		return v, set
	}
	v := ""
	switch key {
	case "node.id":
		v = n.ID
	case "node.hostname":
		v = n.Hostname
	case "node.role":
		v = string(n.Role)
	case "node.platform.os":
		v = n.OS
	case "node.platform.arch":
		v = n.Architecture
	case "node.ip":
		if at, err := netip.ParseAddrPort(n.Addr); err == nil {
			v = at.Addr().Unmap().String()
		}
	}
	return v, v != ""
}

// ParseSpread reads a placement preference, "node.labels.zone", and returns its
// key for PlacementValue.
func ParseSpread(text string) (string, error) {
	key, err := placementKey(strings.TrimSpace(text))
	if err != nil || key == serviceKey {
		return "", fmt.Errorf("spread over %q: want %s", text, PlacementKeys)
	}
	return key, nil
}
