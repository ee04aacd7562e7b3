package compose

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"

	"github.com/dhow-project/dhow/stack"
)

// fail records a problem of the merged model. It is left out when something
// below the same key was already found wrong: then this is a consequence.
func (l *load) fail(path, format string, args ...any) {
	for _, e := range l.errs {
		if e.Path == path || strings.HasPrefix(e.Path, path+".") || strings.HasPrefix(e.Path, path+"[") {
			return
		}
	}
	file, line := l.position(path)
	l.errs = append(l.errs, &Error{File: file, Line: line, Path: path, Msg: fmt.Sprintf(format, args...)})
}

// failItem is fail for an item of a list, found by what it says: merging files
// and expanding ranges moves indexes.
func (l *load) failItem(path string, index int, match func(*yaml.Node) bool, format string, args ...any) {
	for i := len(l.sources) - 1; i >= 0; i-- {
		for _, doc := range l.sources[i].docs {
			list := descend(doc, path)
			if list == nil || list.Kind != yaml.SequenceNode {
				continue
			}
			for j, item := range list.Content {
				if match(deref(item)) {
					at := fmt.Sprintf("%s[%d]", path, j)
					l.errs = append(l.errs, &Error{File: l.sources[i].file, Line: item.Line, Path: at, Msg: fmt.Sprintf(format, args...)})
					return
				}
			}
		}
	}
	l.fail(fmt.Sprintf("%s[%d]", path, index), format, args...)
}

// descend is the node at path, nil when it is not there.
func descend(node *yaml.Node, path string) *yaml.Node {
	node = deref(node)
	for path != "" {
		next, _, rest := step(deref(node), path)
		if next == nil {
			return nil
		}
		node, path = next, rest
	}
	return deref(node)
}

// translate makes the stack of a model. Problems are recorded.
func (l *load) translate(p *types.Project) stack.Stack {
	p = l.choose(p)
	st := stack.Stack{
		Name:       l.name,
		Services:   map[string]stack.Service{},
		WorkingDir: l.dir,
		Files:      l.files,
		EnvFiles:   l.envFiles,
		Disabled:   p.DisabledServiceNames(),
	}
	l.refuseTop(p)
	for _, name := range sortedKeys(p.Services) {
		st.Services[name] = l.service(p, p.Services[name])
	}
	l.linkAliases(st)
	p = p.WithoutUnnecessaryResources()
	st.Networks = l.networks(p)
	st.Volumes = l.volumes(p)
	st.Secrets = l.secrets(p)
	st.Configs = l.configs(p)
	l.validate(st)
	l.warnUnreachable(st)
	l.warnOrder(st)
	return st
}

// choose enables the services that were asked for and leaves out those that
// neither were nor are needed.
func (l *load) choose(p *types.Project) *types.Project {
	if len(l.opt.Services) == 0 {
		return p
	}
	known := append(sortedKeys(p.Services), sortedKeys(p.DisabledServices)...)
	slices.Sort(known)
	for _, name := range l.opt.Services {
		_, on := p.Services[name]
		if _, off := p.DisabledServices[name]; !on && !off {
			l.errs = append(l.errs, &Error{File: l.sources[0].file, Msg: fmt.Sprintf("there is no service %s; there are: %s", name, strings.Join(known, ", "))})
		}
	}
	enabled, err := p.WithServicesEnabled(l.opt.Services...)
	if err != nil {
		l.errs = append(l.errs, &Error{File: l.sources[0].file, Msg: err.Error()})
		return p
	}
	need := map[string]bool{}
	var visit func(string)
	visit = func(name string) {
		svc, ok := enabled.Services[name]
		if !ok || need[name] {
			return
		}
		need[name] = true
		for other := range svc.DependsOn {
			visit(other)
		}
	}
	for _, name := range l.opt.Services {
		visit(name)
	}
	var drop []string
	for name := range enabled.Services {
		if !need[name] {
			drop = append(drop, name)
		}
	}
	return enabled.WithServicesDisabled(drop...)
}

// refuseTop refuses what stands beside the services.
func (l *load) refuseTop(p *types.Project) {
	for _, name := range sortedKeys(p.AllJobs()) {
		l.fail("jobs."+name, "jobs are not honoured yet")
	}
	for _, name := range sortedKeys(p.Models) {
		l.fail("models."+name, "models are not honoured yet")
	}
	for _, key := range sortedKeys(p.Extensions) {
		if strings.HasPrefix(key, "x-dhow-") {
			l.fail(key, "unknown key; x-dhow- keys are dhow's own")
		}
	}
}

// linkAliases makes the alias of a link an alias of the linked service in the
// networks that both share. Two links must not give one alias to two services.
func (l *load) linkAliases(st stack.Stack) {
	taken := map[string]string{}
	for _, name := range sortedKeys(st.Services) {
		for _, link := range st.Services[name].Links {
			target, alias, ok := strings.Cut(link, ":")
			other, exists := st.Services[target]
			if !ok || alias == target || !exists {
				continue
			}
			path := "services." + name + ".links"
			if holder, dup := taken[alias]; dup && holder != target {
				l.fail(path, "%s is already another name of service %s; names hold for the whole network", alias, holder)
				continue
			}
			if _, dup := st.Services[alias]; dup {
				l.fail(path, "%s is the name of another service; names hold for the whole network", alias)
				continue
			}
			taken[alias] = target
			nets := slices.Clone(other.Container.Networks)
			for i, a := range nets {
				shared := slices.ContainsFunc(st.Services[name].Container.Networks, func(b stack.Attachment) bool { return b.Network == a.Network })
				if shared && !slices.Contains(a.Aliases, alias) {
					nets[i].Aliases = append(slices.Clone(a.Aliases), alias)
				}
			}
			other.Container.Networks = nets
			st.Services[target] = other
		}
	}
}

// validate adds what is wrong with the stack as a whole.
func (l *load) validate(st stack.Stack) {
	var problems stack.Problems
	if err := st.Validate(); errors.As(err, &problems) {
		l.placeAll(st, problems)
	}
}

const constraintsKey = ".deploy.placement.constraints"

// placeAll records problems of a stack at their places in the files.
func (l *load) placeAll(st stack.Stack, problems stack.Problems) {
	for _, p := range problems {
		path, index, isItem := cutLastIndex(p.Path)
		switch {
		case isItem && strings.HasSuffix(path, ".ports"):
			port := st.Services[serviceIn(path)].Container.Ports[index]
			l.failItem(path, index, l.matchPort(port), "%s", p.Msg)
		case isItem && strings.HasSuffix(path, ".volumes"):
			target := st.Services[serviceIn(path)].Container.Mounts[index].Target
			l.failItem(path, index, matchMount(target), "%s", p.Msg)
		case isItem && strings.HasSuffix(path, constraintsKey):
			expr := st.Services[strings.TrimSuffix(strings.TrimPrefix(path, "services."), constraintsKey)].Deploy.Constraints[index]
			l.failItem(path, index, func(n *yaml.Node) bool { return n.Value == expr }, "%s", p.Msg)
		case isItem && strings.HasSuffix(path, ".devices"):
			source := st.Services[serviceIn(path)].Container.Devices[index].Source
			l.failItem(path, index, matchDevice(source), "%s", p.Msg)
		case isItem && (strings.HasSuffix(path, ".secrets") || strings.HasSuffix(path, ".configs")):
			c := st.Services[serviceIn(path)].Container
			refs := c.Secrets
			if strings.HasSuffix(path, ".configs") {
				refs = c.Configs
			}
			l.failItem(path, index, matchSource(refs[index].Source), "%s", p.Msg)
		default:
			l.fail(p.Path, "%s", p.Msg)
		}
	}
}

// cutLastIndex splits "services.web.ports[3]".
func cutLastIndex(path string) (list string, index int, ok bool) {
	i := strings.LastIndexByte(path, '[')
	if i < 0 || !strings.HasSuffix(path, "]") {
		return path, 0, false
	}
	index, _, ok = cutIndex(path[i:])
	return path[:i], index, ok
}

// serviceIn is the service of "services.NAME.KEY".
func serviceIn(path string) string {
	name := strings.TrimPrefix(path, "services.")
	return name[:strings.LastIndexByte(name, '.')]
}

func matchMount(target string) func(*yaml.Node) bool {
	return func(n *yaml.Node) bool {
		if n.Kind == yaml.MappingNode {
			t := child(n, "target")
			return t != nil && strings.TrimSuffix(t.Value, "/") == strings.TrimSuffix(target, "/")
		}
		return slices.Contains(strings.Split(n.Value, ":"), target)
	}
}

func matchDevice(source string) func(*yaml.Node) bool {
	return func(n *yaml.Node) bool {
		if s := child(n, "source"); s != nil {
			return s.Value == source
		}
		text, _, _ := strings.Cut(n.Value, ":")
		return text == source
	}
}

func matchSource(source string) func(*yaml.Node) bool {
	return func(n *yaml.Node) bool {
		if s := child(n, "source"); s != nil {
			return s.Value == source
		}
		return n.Value == source
	}
}

// copied is a plain copy of compose-go's named map types, nil when empty.
func copied[M ~map[string]string](m M) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return maps.Clone(map[string]string(m))
}
