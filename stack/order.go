package stack

import (
	"fmt"
	"slices"
	"strings"
)

// Shares returns the names of the services whose namespaces or volumes s
// borrows ("service:NAME" modes and volumes_from), sorted.
func (s Service) Shares() []string {
	names := s.SharesNamespaces()
	for _, from := range s.Container.VolumesFrom {
		if name, ok := ServiceOfVolumesFrom(from); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// SharesNamespaces returns the names of the services whose namespaces s joins, sorted.
func (s Service) SharesNamespaces() []string {
	var names []string
	for _, mode := range []string{s.Container.NetworkMode, s.Container.PIDMode, s.Container.IPCMode} {
		if name, ok := strings.CutPrefix(mode, "service:"); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ServiceOfVolumesFrom returns the service of a volumes_from entry of the form "service:NAME[:ro|rw]".
func ServiceOfVolumesFrom(entry string) (string, bool) {
	rest, ok := strings.CutPrefix(entry, "service:")
	if !ok {
		return "", false
	}
	name, _, _ := strings.Cut(rest, ":")
	return name, true
}

// Needs returns the names of the services that have to exist before s can run:
// depends_on, shared namespaces and volumes, and links. Sorted, without repeats.
func (s Service) Needs() []string {
	names := s.Shares()
	for _, d := range s.DependsOn {
		names = append(names, d.Service)
	}
	for _, l := range s.Links {
		name, _, _ := strings.Cut(l, ":")
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// DependencyOrder returns the services in levels: those of one level need
// services of earlier levels only. Names are sorted within a level. Services
// that are needed but not in the stack are passed over; a cycle is an error
// that names its path.
func (s Stack) DependencyOrder() ([][]string, error) {
	if cycle := s.cycle(); cycle != nil {
		return nil, fmt.Errorf("dependency cycle: %s", strings.Join(cycle, " -> "))
	}
	level := make(map[string]int, len(s.Services))
	var depth func(string) int
	depth = func(name string) int {
		if l, ok := level[name]; ok {
			return l
		}
		l := 0
		for _, need := range s.Services[name].Needs() {
			if _, ok := s.Services[need]; ok {
				l = max(l, depth(need)+1)
			}
		}
		level[name] = l
		return l
	}
	var levels [][]string
	for _, name := range s.ServiceNames() {
		l := depth(name)
		for len(levels) <= l {
			levels = append(levels, nil)
		}
		levels[l] = append(levels[l], name)
	}
	return levels, nil
}

// cycle returns one dependency cycle as a path that ends where it begins
// ("web", "api", "web"), or nil. Which one does not depend on map order.
func (s Stack) cycle() []string {
	const (
		open   = 1
		closed = 2
	)
	mark := make(map[string]int, len(s.Services))
	var path []string
	var visit func(string) []string
	visit = func(name string) []string {
		if mark[name] == closed {
			return nil
		}
		if mark[name] == open {
			return append(slices.Clone(path[slices.Index(path, name):]), name)
		}
		mark[name] = open
		path = append(path, name)
		for _, need := range s.Services[name].Needs() {
			if _, ok := s.Services[need]; !ok {
				continue
			}
			if found := visit(need); found != nil {
				return found
			}
		}
		path = path[:len(path)-1]
		mark[name] = closed
		return nil
	}
	for _, name := range s.ServiceNames() {
		if found := visit(name); found != nil {
			return found
		}
	}
	return nil
}

// Closure returns names and all that they need, directly or not, sorted.
// Names that the stack does not have are left out.
func (s Stack) Closure(names []string) []string {
	seen := map[string]bool{}
	var visit func(string)
	visit = func(name string) {
		svc, ok := s.Services[name]
		if !ok || seen[name] {
			return
		}
		seen[name] = true
		for _, need := range svc.Needs() {
			visit(need)
		}
	}
	for _, name := range names {
		visit(name)
	}
	var out []string
	for _, name := range s.ServiceNames() {
		if seen[name] {
			out = append(out, name)
		}
	}
	return out
}
