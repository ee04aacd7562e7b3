package dispatch

import (
	"cmp"
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// partSize is about how many bytes an update's part has: enough to be worth a
// message, and little enough that heartbeats pass between two of them.
const partSize = 512 << 10

// differ knows what a node has and finds what it lacks. It belongs to one goroutine.
type differ struct {
	book  *specBook
	tasks map[string]had
	specs map[string]int // tasks that use each spec the node has; 0: none, but the node has it
}

// had is a task that the node has.
type had struct {
	sum  uint64
	refs []string
}

// newDiffer starts from what the node says that it still has. What its tasks
// refer to is learnt as they are looked at.
func newDiffer(book *specBook, tasks map[string]uint64, specs []string) *differ {
	d := &differ{book: book, tasks: make(map[string]had, len(tasks)), specs: make(map[string]int, len(specs))}
	for id, sum := range tasks {
		d.tasks[id] = had{sum: sum}
	}
	for _, ref := range specs {
		d.specs[ref] = 0
	}
	return d
}

// next returns the parts of an update that make the node's tasks want; at least
// one. Of touched tasks, or all when everything is, the content is compared.
func (d *differ) next(want []stack.Assignment, all bool, touched map[string]bool) ([]update, error) {
	p := &parts{list: []update{{}}}
	seen := make(map[string]bool, len(want))
	dropped := map[string]bool{}
	for i := range want {
		a := &want[i]
		seen[a.Task.ID] = true
		old, has := d.tasks[a.Task.ID]
		if has && !all && !touched[a.Task.ID] {
			continue
		}
		item, specs, err := d.item(a)
		if err != nil {
			return nil, err
		}
		d.hold(item, specs, p)
		d.release(old.refs, dropped)
		if !has || old.sum != item.Sum {
			p.room(roughSize(&item)).Tasks = append(p.last().Tasks, item)
		}
	}
	for id, old := range d.tasks {
		if !seen[id] {
			delete(d.tasks, id)
			d.release(old.refs, dropped)
			p.room(len(id) + 4).Gone = append(p.last().Gone, id)
		}
	}
	if all {
		for ref := range d.specs {
			dropped[ref] = true // what a former session left
		}
	}
	d.drop(dropped, p)
	return p.list, nil
}

// roughSize is about how long a task's message is: encoding it to know would cost as much as sending it.
func roughSize(t *taskItem) int {
	return 768 + len(t.Task.Status.Message) + 128*(len(t.Task.Anonymous)+len(t.Task.Status.Anonymous)) + 64*(len(t.Secrets)+len(t.Configs))
}

// item makes the message of a task, and the specs that it refers to.
func (d *differ) item(a *stack.Assignment) (taskItem, []spec, error) {
	item := taskItem{Task: a.Task, Hash: a.Hash, Auth: a.Auth}
	var specs []spec
	add := func(s spec, err error) (string, error) {
		if err == nil {
			specs = append(specs, s)
		}
		return s.Ref, err
	}
	var err error
	if a.Service != nil {
		if item.Service, err = add(d.book.service(a.Service)); err != nil {
			return item, nil, err
		}
	}
	if a.Stack != nil {
		if item.Stack, err = add(d.book.stack(a.Stack)); err != nil {
			return item, nil, err
		}
	}
	files := func(in map[string][]byte, kind string) (map[string]string, error) {
		if in == nil {
			return nil, nil
		}
		out := make(map[string]string, len(in))
		for key, data := range in {
			ref, err := add(d.book.file(data, kind))
			if err != nil {
				return nil, err
			}
			out[key] = ref
		}
		return out, nil
	}
	if item.Secrets, err = files(a.Secrets, kindSecret); err != nil {
		return item, nil, err
	}
	if item.Configs, err = files(a.Configs, kindConfig); err != nil {
		return item, nil, err
	}
	item.Sum = itemSum(&item)
	return item, specs, nil
}

// hold counts a task's references and sends the specs that the node lacks.
func (d *differ) hold(item taskItem, specs []spec, p *parts) {
	for _, s := range specs {
		if _, ok := d.specs[s.Ref]; !ok {
			p.room(len(s.Data) + len(s.Ref) + 40).Specs = append(p.last().Specs, s)
		}
		d.specs[s.Ref]++
	}
	refs := make([]string, len(specs))
	for i, s := range specs {
		refs[i] = s.Ref
	}
	d.tasks[item.Task.ID] = had{item.Sum, refs}
}

func (d *differ) release(refs []string, dropped map[string]bool) {
	for _, ref := range refs {
		d.specs[ref]--
		dropped[ref] = true
	}
}

// drop tells of the specs that nothing refers to any more.
func (d *differ) drop(candidates map[string]bool, p *parts) {
	var refs []string
	for ref := range candidates {
		if n, ok := d.specs[ref]; ok && n <= 0 {
			delete(d.specs, ref)
			refs = append(refs, ref)
		}
	}
	slices.SortFunc(refs, cmp.Compare[string])
	for _, ref := range refs {
		p.room(len(ref) + 4).Drop = append(p.last().Drop, ref)
	}
}

// parts is an update that is being filled.
type parts struct {
	list []update
	size int // of the last part
}

// room returns the part that has room for n more bytes.
func (p *parts) room(n int) *update {
	if p.size > 0 && p.size+n > partSize {
		p.last().More = true
		p.list = append(p.list, update{})
		p.size = 0
	}
	p.size += n
	return p.last()
}

func (p *parts) last() *update { return &p.list[len(p.list)-1] }

// empty says that an update of one part says nothing.
func (u *update) empty() bool {
	return len(u.Specs)+len(u.Tasks)+len(u.Gone)+len(u.Drop)+len(u.Topics) == 0 && u.Board == nil
}
