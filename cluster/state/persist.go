package state

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/dhow-project/dhow/stack"
)

// A persisted state is lines of JSON: a header, one line per record in table
// and key order, and an end that counts them.

const magic = "dhow-state"

type header struct {
	Magic  string `json:"magic"`
	Format int    `json:"format"`
	Index  uint64 `json:"index"`
}

type line struct {
	Table Table           `json:"t"`
	Value json.RawMessage `json:"v,omitempty"`
	Count int             `json:"n,omitempty"` // in the last line
}

const tableEnd Table = "end"

// Persist writes the state; equal states give equal bytes.
func (s *Snapshot) Persist(w io.Writer) error {
	p := persister{w: bufio.NewWriterSize(w, 64<<10)}
	p.enc = json.NewEncoder(p.w)
	t := &s.tables
	p.encode(header{Magic: magic, Format: format, Index: t.index})
	if t.cluster != nil {
		p.record(TableCluster, t.cluster)
	}
	write(&p, TableNode, &t.nodes)
	write(&p, TableStack, &t.stacks)
	write(&p, TableService, &t.services)
	write(&p, TableTask, &t.tasks)
	t.past.all(func(g *group[pair, pastKey, stack.Task]) bool {
		write(&p, TablePast, &g.tree)
		return p.err == nil
	})
	write(&p, TableNetwork, &t.networks.byName)
	write(&p, TableVolume, &t.volumes.byName)
	write(&p, TableSecret, &t.secrets.byName)
	write(&p, TableConfig, &t.configs.byName)
	p.encode(line{Table: tableEnd, Count: p.count})
	if p.err == nil {
		p.err = p.w.Flush()
	}
	if p.err != nil {
		return fmt.Errorf("persist state: %w", p.err)
	}
	return nil
}

// persister writes lines until an error.
type persister struct {
	w     *bufio.Writer
	enc   *json.Encoder
	count int
	err   error
}

func (p *persister) encode(v any) {
	if p.err == nil {
		p.err = p.enc.Encode(v)
	}
}

func (p *persister) record(table Table, r any) {
	p.encode(struct {
		Table Table `json:"t"`
		Value any   `json:"v"`
	}{table, r})
	p.count++
}

func write[K, T any](p *persister, table Table, t *tree[K, T]) {
	t.all(func(r *T) bool {
		p.record(table, r)
		return p.err == nil
	})
}

// Restore replaces the state by what Persist wrote. When r is damaged or cut
// off it fails and leaves the state as it was.
func (s *Store) Restore(r io.Reader) error {
	t := newTables()
	if err := t.load(r); err != nil {
		return fmt.Errorf("restore state: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tables = t
	s.feed.reset(t.index)
	s.notifyLocked()
	return nil
}

func (t *tables) load(r io.Reader) error {
	dec := json.NewDecoder(bufio.NewReaderSize(r, 64<<10))
	var h header
	if err := dec.Decode(&h); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if h.Magic != magic || h.Format != format {
		return fmt.Errorf("not a state of this format: %q %d", h.Magic, h.Format)
	}
	t.index = h.Index
	if count, err := t.loadRecords(dec); err != nil {
		return fmt.Errorf("record %d: %w", count+1, err)
	}
	return nil
}

// loadRecords reads up to the end line and returns the number of records.
func (t *tables) loadRecords(dec *json.Decoder) (int, error) {
	e := &edit{}
	for count := 0; ; count++ {
		var l line
		if err := dec.Decode(&l); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return count, err
		}
		if l.Table == tableEnd {
			if l.Count != count {
				return count, fmt.Errorf("the end speaks of %d records", l.Count)
			}
			return count, nil
		}
		if err := t.loadRecord(e, l); err != nil {
			return count, err
		}
	}
}

func (t *tables) loadRecord(e *edit, l line) (err error) {
	switch l.Table {
	case TableCluster:
		err = load(l, func(c *Cluster) { t.cluster = c })
	case TableNode:
		err = load(l, func(n *stack.Node) { t.nodes.put(e, n) })
	case TableStack:
		err = load(l, func(s *Stack) { t.stacks.put(e, s) })
	case TableService:
		err = load(l, func(s *Service) { t.services.put(e, s) })
	case TableTask:
		err = load(l, func(task *stack.Task) { t.putTask(e, task) })
	case TablePast:
		err = load(l, func(task *stack.Task) { t.past.replace(e, nil, task) })
	case TableNetwork:
		err = load(l, func(n *Network) { t.putNetwork(e, n) })
	case TableVolume:
		err = load(l, func(v *Volume) { t.volumes.put(e, v) })
	case TableSecret:
		err = load(l, func(s *Secret) { t.secrets.put(e, s) })
	case TableConfig:
		err = load(l, func(c *Config) { t.configs.put(e, c) })
	default:
		err = fmt.Errorf("table %q is not known", l.Table)
	}
	return err
}

func load[T any](l line, put func(*T)) error {
	r := new(T)
	if err := json.Unmarshal(l.Value, r); err != nil {
		return fmt.Errorf("%s: %w", l.Table, err)
	}
	put(r)
	return nil
}
