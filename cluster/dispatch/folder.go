package dispatch

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// folder is a node's copy of one directory. It is not safe for use by several goroutines.
type folder struct {
	dir   *stack.Directory  // shown, and never changed in place: another content is another pointer
	sums  map[string]uint64 // by key, as the leader gave them
	stale bool              // the sums are of nothing that a leader has said
	notes []notice          // of dir, for the cache; nil: not made yet
}

func newFolder() *folder { return &folder{dir: &stack.Directory{}, sums: map[string]uint64{}} }

// maxSums bounds the buckets in which a directory is compared after a reconnect.
const maxSums = buckets

// buckets are so many that those which differ cost little, and so few that their
// sums cost less than the records.
func (f *folder) buckets() int {
	n := 1
	for n < maxSums && 16*n < len(f.sums) {
		n *= 2
	}
	return n
}

// sum are those of the buckets, for the next session.
func (f *folder) sum() []uint64 {
	if f.stale {
		return nil
	}
	out := make([]uint64, f.buckets())
	for key, s := range f.sums {
		out[bucketOf(key, len(out))] ^= mix(key, s)
	}
	return out
}

// changes are records by key, of each kind; nil: gone.
type changes struct {
	endpoints map[string]*stack.Endpoint
	services  map[string]*stack.ServiceAddress
	published map[string]*stack.Published
}

func newChanges() *changes {
	return &changes{map[string]*stack.Endpoint{}, map[string]*stack.ServiceAddress{}, map[string]*stack.Published{}}
}

// gone says that there is no record of a key; it is false for a key of another kind.
func (c *changes) gone(key string) {
	switch kind, name, _ := strings.Cut(key, "/"); kind {
	case "endpoint":
		c.endpoints[name] = nil
	case "service":
		c.services[name] = nil
	case "published":
		c.published[name] = nil
	}
}

// add reads one record. Of a kind that is not known it says nothing.
func (c *changes) add(n notice) error {
	var err error
	switch kind, name, _ := strings.Cut(n.Key, "/"); kind {
	case "endpoint":
		c.endpoints[name], err = record(n.Data, name, func(e *stack.Endpoint) string { return e.ID })
	case "service":
		c.services[name], err = record(n.Data, name, func(s *stack.ServiceAddress) string { return s.Service })
	case "published":
		c.published[name], err = record(n.Data, name, func(p *stack.Published) string { return p.Service })
	}
	if err != nil {
		return fmt.Errorf("record %q: %w", n.Key, err)
	}
	return nil
}

// record reads what has a name that it must agree with.
func record[T any](data json.RawMessage, name string, of func(*T) string) (*T, error) {
	var v *T
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, err
	}
	if v == nil || name == "" || of(v) != name {
		return nil, errors.New("it is another one's")
	}
	return v, nil
}

// decode checks news without taking them in.
func (n *topicNews) decode() (*changes, error) {
	c := newChanges()
	if n.End {
		return c, nil
	}
	if n.News == nil {
		return nil, errors.New("there are none")
	}
	if n.Of < 0 || n.Of > maxSums {
		return nil, fmt.Errorf("%d buckets", n.Of)
	}
	for _, i := range n.News.Clear {
		if i < 0 || i >= n.Of {
			return nil, fmt.Errorf("bucket %d of %d", i, n.Of)
		}
	}
	for _, key := range n.News.Gone {
		c.gone(key)
	}
	for _, it := range n.News.Items {
		if err := c.add(it); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// take takes in news that decode has read.
func (f *folder) take(n *topicNews, read *changes) {
	c := newChanges()
	if len(n.News.Clear) > 0 {
		f.clear(n, c)
	}
	for _, key := range n.News.Gone {
		delete(f.sums, key)
	}
	for _, it := range n.News.Items {
		f.sums[it.Key] = it.Sum
	}
	maps.Copy(c.endpoints, read.endpoints)
	maps.Copy(c.services, read.services)
	maps.Copy(c.published, read.published)
	f.apply(c)
}

// clear empties buckets.
func (f *folder) clear(n *topicNews, c *changes) {
	f.stale = f.stale && len(n.News.Clear) < n.Of
	empty := make([]bool, n.Of)
	for _, i := range n.News.Clear {
		empty[i] = true
	}
	for _, it := range records(f.dir) {
		if empty[bucketOf(it.key, n.Of)] {
			c.gone(it.key)
		}
	}
	for key := range f.sums {
		if empty[bucketOf(key, n.Of)] {
			delete(f.sums, key)
		}
	}
}

// set takes in what a manager in this process has of some keys; nil: of all.
func (f *folder) set(d *stack.Directory, keys []string) {
	f.stale = true
	c := newChanges()
	if keys == nil {
		for _, it := range records(f.dir) {
			c.gone(it.key)
		}
	}
	for _, key := range keys {
		c.gone(key)
	}
	if d != nil {
		for i := range d.Endpoints {
			c.endpoints[d.Endpoints[i].ID] = &d.Endpoints[i]
		}
		for i := range d.Services {
			c.services[d.Services[i].Service] = &d.Services[i]
		}
		for i := range d.Published {
			c.published[d.Published[i].Service] = &d.Published[i]
		}
	}
	f.apply(c)
}

// apply makes another directory, if it is another one.
func (f *folder) apply(c *changes) {
	next := *f.dir
	a := patch(&next.Endpoints, c.endpoints, func(e *stack.Endpoint) string { return e.ID })
	b := patch(&next.Services, c.services, func(s *stack.ServiceAddress) string { return s.Service })
	p := patch(&next.Published, c.published, func(p *stack.Published) string { return p.Service })
	if a || b || p {
		f.dir, f.notes = &next, nil
	}
}

// patch makes another list of one sorted by key, and reports whether it differs.
func patch[T any](list *[]T, changes map[string]*T, key func(*T) string) bool {
	old := *list
	differs := false
	for k, v := range changes {
		i, has := slices.BinarySearchFunc(old, k, func(e T, k string) int { return strings.Compare(key(&e), k) })
		if has == (v != nil) && (!has || reflect.DeepEqual(old[i], *v)) {
			delete(changes, k)
			continue
		}
		differs = true
	}
	if !differs {
		return false
	}
	keys := slices.Sorted(maps.Keys(changes))
	out := make([]T, 0, len(old)+len(keys))
	from := 0
	for _, k := range keys {
		i, has := slices.BinarySearchFunc(old[from:], k, func(e T, k string) int { return strings.Compare(key(&e), k) })
		out = append(out, old[from:from+i]...)
		if from += i; has {
			from++
		}
		if v := changes[k]; v != nil {
			out = append(out, *v)
		}
	}
	if *list = append(out, old[from:]...); len(*list) == 0 {
		*list = nil
	}
	return true
}

// notices are all records of it.
func (f *folder) notices() ([]notice, error) {
	if f.notes == nil {
		f.notes = []notice{}
		for _, it := range records(f.dir) {
			n, err := it.notice()
			if err != nil {
				return nil, err
			}
			n.Sum = 0 // only a leader gives one
			f.notes = append(f.notes, n)
		}
	}
	return f.notes, nil
}
