package bench

import (
	"errors"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// ask measures n questions for a name, one after the other, to the resolver of a place.
func (p place) ask(resolver, name string, n int) (samples, error) {
	r, err := netlab.NewResolver(p.ns, resolver)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	out := make(samples, 0, n)
	for range n {
		start := time.Now()
		found, err := r.Lookup(name)
		if out = append(out, time.Since(start)); err != nil {
			return out, err
		}
		if len(found) == 0 {
			return out, errors.New("the answer has no address")
		}
	}
	return out, nil
}
