package state

import (
	"bufio"
	"encoding/json"
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
	write(&p, TableEndpoint, &t.endpoints)
	write(&p, TableRevision, &t.revisions)
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
