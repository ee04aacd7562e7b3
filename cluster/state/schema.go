package state

import (
	"encoding/binary"
	"fmt"

	"github.com/hashicorp/go-memdb"

	"github.com/dhow-project/dhow/stack"
)

// meta holds what is not a record of the cluster; persisted in the header.
type meta struct {
	Index uint64
}

const tableMeta = "meta"

// keyIndex is an index over strings that a typed function takes from a record;
// no reflection, unlike memdb's own. Parts are ended by a zero byte each, so
// that no part can be mistaken for the beginning of another.
type keyIndex[T any] func(*T) []byte

func (f keyIndex[T]) FromObject(raw any) (bool, []byte, error) {
	r, ok := raw.(*T)
	if !ok {
		return false, nil, fmt.Errorf("record of type %T", raw)
	}
	k := f(r)
	return k != nil, k, nil
}

// FromArgs takes strings (ended by a zero byte) and uint64 (big endian).
func (f keyIndex[T]) FromArgs(args ...any) ([]byte, error) {
	var k []byte
	for _, a := range args {
		switch v := a.(type) {
		case string:
			k = append(append(k, v...), 0)
		case uint64:
			k = binary.BigEndian.AppendUint64(k, v)
		default:
			return nil, fmt.Errorf("argument of type %T", a)
		}
	}
	return k, nil
}

// PrefixFromArgs lets "NAME_prefix" find all keys that begin with the given parts.
func (f keyIndex[T]) PrefixFromArgs(args ...any) ([]byte, error) { return f.FromArgs(args...) }

func parts(ss ...string) []byte {
	n := 0
	for _, s := range ss {
		n += len(s) + 1
	}
	k := make([]byte, 0, n+8)
	for _, s := range ss {
		k = append(append(k, s...), 0)
	}
	return k
}

func index[T any](name string, unique bool, f func(*T) []byte) *memdb.IndexSchema {
	return &memdb.IndexSchema{Name: name, Unique: unique, AllowMissing: !unique, Indexer: keyIndex[T](f)}
}

func table[T any](name Table, key func(*T) []byte, more ...*memdb.IndexSchema) *memdb.TableSchema {
	t := &memdb.TableSchema{Name: string(name), Indexes: map[string]*memdb.IndexSchema{"id": index("id", true, key)}}
	for _, i := range more {
		t.Indexes[i.Name] = i
	}
	return t
}

// byStack leaves records without a stack out of the index.
func byStack(name string) []byte {
	if name == "" {
		return nil
	}
	return parts(name)
}

func schema() *memdb.DBSchema {
	tables := []*memdb.TableSchema{
		table(tableMeta, func(*meta) []byte { return parts("") }),
		table(TableCluster, func(*Cluster) []byte { return parts("") }),
		table(TableNode, func(n *stack.Node) []byte { return parts(n.ID) }),
		table(TableStack, func(s *Stack) []byte { return parts(s.Name) },
			index("index", false, func(s *Stack) []byte { return binary.BigEndian.AppendUint64(nil, s.Index) })),
		table(TableService, func(s *Service) []byte { return parts(s.Stack, s.Name) }),
		table(TableTask, func(t *stack.Task) []byte { return parts(t.ID) },
			index("service", false, func(t *stack.Task) []byte {
				return binary.BigEndian.AppendUint64(parts(t.Stack, t.Service), uint64(t.Slot))
			}),
			index("node", false, func(t *stack.Task) []byte { return byStack(t.Node) })),
		table(TableNetwork, func(n *Network) []byte { return parts(n.Name) },
			index("netid", false, func(n *Network) []byte { return byStack(n.ID) }),
			index("stack", false, func(n *Network) []byte { return byStack(n.Network.Stack) })),
		table(TableVolume, func(v *Volume) []byte { return parts(v.Name) },
			index("stack", false, func(v *Volume) []byte { return byStack(v.Stack) })),
		table(TableSecret, func(s *Secret) []byte { return parts(s.Name) },
			index("stack", false, func(s *Secret) []byte { return byStack(s.Stack) })),
		table(TableConfig, func(c *Config) []byte { return parts(c.Name) },
			index("stack", false, func(c *Config) []byte { return byStack(c.Stack) })),
	}
	db := &memdb.DBSchema{Tables: map[string]*memdb.TableSchema{}}
	for _, t := range tables {
		db.Tables[t.Name] = t
	}
	return db
}
