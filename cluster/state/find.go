package state

import (
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// find returns the record of a key and the stack it belongs to; nil when there is none.
func (t *tx) find(k Key) (any, string) {
	switch k.Table {
	case TableNode:
		return orNil(first[stack.Node](t.txn, k.Table, "id", k.Name)), ""
	case TableStack:
		return orNil(first[Stack](t.txn, k.Table, "id", k.Name)), ""
	case TableService:
		stackName, name, _ := strings.Cut(k.Name, "/")
		return orNil(first[Service](t.txn, k.Table, "id", stackName, name)), stackName
	case TableTask:
		if task := first[stack.Task](t.txn, k.Table, "id", k.Name); task != nil {
			return task, task.Stack
		}
	case TableNetwork:
		if n := first[Network](t.txn, k.Table, "id", k.Name); n != nil {
			return n, n.Network.Stack
		}
	case TableSecret:
		if s := first[Secret](t.txn, k.Table, "id", k.Name); s != nil {
			return s, s.Stack
		}
	case TableConfig:
		if c := first[Config](t.txn, k.Table, "id", k.Name); c != nil {
			return c, c.Stack
		}
	}
	return nil, ""
}

// orNil keeps a nil pointer from becoming a non-nil interface.
func orNil[T any](r *T) any {
	if r == nil {
		return nil
	}
	return r
}
