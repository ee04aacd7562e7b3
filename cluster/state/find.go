package state

import (
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// find returns the record of a key and whom it concerns; nil when there is none.
func (t *tx) find(k Key) (any, Touched) {
	what := Touched{Table: k.Table, Key: k.Name}
	switch k.Table {
	case TableNode:
		what.Node = k.Name
		return orNil(first[stack.Node](t.txn, k.Table, "id", k.Name)), what
	case TableStack:
		what.Stack = k.Name
		return orNil(first[Stack](t.txn, k.Table, "id", k.Name)), what
	case TableService:
		stackName, name, _ := strings.Cut(k.Name, "/")
		what.Stack = stackName
		return orNil(first[Service](t.txn, k.Table, "id", stackName, name)), what
	case TableTask:
		if task := first[stack.Task](t.txn, k.Table, "id", k.Name); task != nil {
			what.Stack, what.Node = task.Stack, task.Node
			return task, what
		}
	case TableVolume:
		if v := first[Volume](t.txn, k.Table, "id", k.Name); v != nil {
			what.Stack, what.Node = v.Stack, v.Node
			return v, what
		}
	}
	return t.findMore(k, what)
}

// findMore is find for the tables of what a stack is made of.
func (t *tx) findMore(k Key, what Touched) (any, Touched) {
	switch k.Table {
	case TableNetwork:
		if n := first[Network](t.txn, k.Table, "id", k.Name); n != nil {
			what.Stack = n.Network.Stack
			return n, what
		}
	case TableSecret:
		if s := first[Secret](t.txn, k.Table, "id", k.Name); s != nil {
			what.Stack = s.Stack
			return s, what
		}
	case TableConfig:
		if c := first[Config](t.txn, k.Table, "id", k.Name); c != nil {
			what.Stack = c.Stack
			return c, what
		}
	}
	return nil, what
}

// orNil keeps a nil pointer from becoming a non-nil interface.
func orNil[T any](r *T) any {
	if r == nil {
		return nil
	}
	return r
}
