package state

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/go-memdb"

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

// tables in the order in which they are persisted, with the making of their records.
var tables = []struct {
	name Table
	make func() any
}{
	{TableCluster, func() any { return new(Cluster) }},
	{TableNode, func() any { return new(stack.Node) }},
	{TableStack, func() any { return new(Stack) }},
	{TableService, func() any { return new(Service) }},
	{TableTask, func() any { return new(stack.Task) }},
	{TableNetwork, func() any { return new(Network) }},
	{TableVolume, func() any { return new(Volume) }},
	{TableSecret, func() any { return new(Secret) }},
	{TableConfig, func() any { return new(Config) }},
}

// Persist writes the state; equal states give equal bytes.
func (s *Snapshot) Persist(w io.Writer) error {
	b := bufio.NewWriterSize(w, 64<<10)
	enc := json.NewEncoder(b)
	if err := enc.Encode(header{Magic: magic, Format: format, Index: s.Index()}); err != nil {
		return fmt.Errorf("persist state: %w", err)
	}
	count := 0
	for _, t := range tables {
		it, err := s.txn.Get(string(t.name), "id_prefix")
		if err != nil {
			return fmt.Errorf("persist %s: %w", t.name, err)
		}
		for r := it.Next(); r != nil; r = it.Next() {
			v, err := json.Marshal(r)
			if err != nil {
				return fmt.Errorf("persist %s: %w", t.name, err)
			}
			if err := enc.Encode(line{Table: t.name, Value: v}); err != nil {
				return fmt.Errorf("persist %s: %w", t.name, err)
			}
			count++
		}
	}
	if err := enc.Encode(line{Table: tableEnd, Count: count}); err != nil {
		return fmt.Errorf("persist state: %w", err)
	}
	return b.Flush()
}

// Restore replaces the state by what Persist wrote. When r is damaged or cut
// off it fails and leaves the state as it was.
func (s *Store) Restore(r io.Reader) error {
	db := newDB()
	if err := load(db, r); err != nil {
		return fmt.Errorf("restore state: %w", err)
	}
	s.mu.Lock()
	s.db = db
	s.feed.reset((&Snapshot{txn: db.Txn(false)}).Index())
	s.mu.Unlock()
	s.notify()
	return nil
}

func load(db *memdb.MemDB, r io.Reader) error {
	dec := json.NewDecoder(bufio.NewReaderSize(r, 64<<10))
	var h header
	if err := dec.Decode(&h); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if h.Magic != magic || h.Format != format {
		return fmt.Errorf("not a state of this format: %q %d", h.Magic, h.Format)
	}
	txn := db.Txn(true)
	defer txn.Abort()
	count, err := loadRecords(txn, dec)
	if err != nil {
		return fmt.Errorf("record %d: %w", count+1, err)
	}
	if err := txn.Insert(tableMeta, &meta{Index: h.Index}); err != nil {
		return err
	}
	txn.Commit()
	return nil
}

// loadRecords reads up to the end line and returns the number of records.
func loadRecords(txn *memdb.Txn, dec *json.Decoder) (int, error) {
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
		if err := loadRecord(txn, l); err != nil {
			return count, err
		}
	}
}

func loadRecord(txn *memdb.Txn, l line) error {
	for _, t := range tables {
		if t.name != l.Table {
			continue
		}
		r := t.make()
		if err := json.Unmarshal(l.Value, r); err != nil {
			return fmt.Errorf("%s: %w", l.Table, err)
		}
		return txn.Insert(string(l.Table), r)
	}
	return fmt.Errorf("table %q is not known", l.Table)
}
