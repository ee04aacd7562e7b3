package state

import "strings"

// serviceKey is the inverse of ServiceKey.
func serviceKey(name string) pair {
	stackName, service, _ := strings.Cut(name, "/")
	return pair{stackName, service}
}

// find returns whom the record of a key concerns; false when there is none.
func (t *tables) find(k Key) (what Touched, ok bool) {
	what = Touched{Table: k.Table, Key: k.Name}
	switch k.Table {
	case TableNode:
		what.Node, what.Life = k.Name, true
		return what, t.nodes.get(k.Name) != nil
	case TableStack:
		what.Stack = k.Name
		return what, t.stacks.get(k.Name) != nil
	case TableService:
		key := serviceKey(k.Name)
		what.Stack = key.a
		s := t.services.get(key)
		what.Networks, what.Outward = t.serviceNetworks(s), true
		return what, s != nil
	case TableTask:
		if task := t.tasks.get(k.Name); task != nil {
			what.Stack, what.Node, what.Networks = task.Stack, task.Node, networksOf(task.Addresses)
			return what, true
		}
	case TableVolume:
		if v := t.volumes.byName.get(k.Name); v != nil {
			what.Stack, what.Node = v.Stack, v.Node
			return what, true
		}
	case TableEndpoint:
		if e := t.endpoints.get(endpointKey(k.Name)); e != nil {
			what.Node, what.Networks = e.Node, []string{e.Network}
			return what, true
		}
	case TableNetwork:
		return inStack(what, &t.networks)
	case TableSecret:
		return inStack(what, &t.secrets)
	case TableConfig:
		return inStack(what, &t.configs)
	}
	return what, false
}

func inStack[T any](what Touched, o *owned[T]) (Touched, bool) {
	r := o.byName.get(what.Key)
	if r == nil {
		return what, false
	}
	what.Stack = o.stack(r)
	return what, true
}
