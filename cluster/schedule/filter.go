package schedule

import (
	"errors"
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// Filter is what a service asks of a node alone, whatever runs there: platform
// and constraints. It is made once for many nodes.
type Filter struct {
	platform    string
	constraints []stack.Constraint // about nodes, in the order of the file
	services    []stack.Constraint // about services
	texts       []string           // of constraints, as written
	bad         error              // a constraint that cannot be read: no node fits
}

// NewFilter reads the service's constraints.
func NewFilter(s *stack.Service) *Filter {
	f := &Filter{platform: s.Container.Platform}
	for _, expr := range s.Deploy.Constraints {
		c, err := stack.ParseConstraint(expr)
		switch {
		case err != nil:
			f.bad = errors.Join(f.bad, err)
		case c.OfService():
			f.services = append(f.services, c)
		default:
			f.constraints = append(f.constraints, c)
			f.texts = append(f.texts, expr)
		}
	}
	return f
}

// Miss is "" when the node fits, else what is amiss in words that follow a number of nodes.
func (f *Filter) Miss(n *stack.Node) string {
	v := f.test(n)
	if v.test == passed {
		return ""
	}
	if v.test == badConstraint {
		return f.bad.Error()
	}
	w := want{need: &need{filter: f}}
	return w.unmatched(v)
}

// Fits tests what does not depend on other tasks: platform and constraints. It
// is Filter.Miss for one node; for many, make the Filter once.
func Fits(s *stack.Service, n *stack.Node) string { return NewFilter(s).Miss(n) }

// CheckConstraint reports what is wrong with a placement constraint.
func CheckConstraint(expr string) error {
	_, err := stack.ParseConstraint(expr)
	return err
}

// runs says whether a node runs programs of a platform ("linux/arm64/v8"; the
// variant is not looked at). What the node does not tell of itself is no reason against it.
func runs(platform string, n *stack.Node) bool {
	os, rest, _ := strings.Cut(platform, "/")
	arch, _, _ := strings.Cut(rest, "/")
	return (os == "" || n.OS == "" || os == n.OS) && (arch == "" || n.Architecture == "" || arch == n.Architecture)
}
