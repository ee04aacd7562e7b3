package dispatch

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/dhow-project/dhow/stack"
)

// mirror is what a node knows of its work: what the leader last said.
type mirror struct {
	mu      sync.Mutex
	tasks   map[string]mirrored // guarded by mu
	specs   map[string]any      // guarded by mu: by reference
	board   *copyBoard          // guarded by mu
	folders map[string]*folder  // guarded by mu: directories by topic
	index   uint64              // guarded by mu: state that this is of
	view    View                // guarded by mu
	list    []stack.Assignment  // guarded by mu: by task ID; never changed in place
	parts   []update            // guarded by mu: parts that wait for the last one
	change  chan struct{}       // guarded by mu: closed at the next change
	version uint64              // guarded by mu: grows with each change
	ready   chan struct{}       // closed when there is something complete to show
	old     bool                // guarded by mu: what is shown is from before this start
	once    sync.Once
}

// mirrored is one task; sum is 0 when it did not come over a session.
type mirrored struct {
	taskItem
	assignment stack.Assignment
}

func newMirror() *mirror {
	return &mirror{
		tasks: map[string]mirrored{}, specs: map[string]any{}, board: newCopyBoard(), folders: map[string]*folder{},
		change: make(chan struct{}), ready: make(chan struct{}),
	}
}

// greet fills a greeting with what need not be sent again.
func (m *mirror) greet(h *hello) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.parts = nil
	h.Tasks = make(map[string]uint64, len(m.tasks))
	for id, t := range m.tasks {
		h.Tasks[id] = t.Sum // also 0: the leader has to say when it is gone
	}
	for ref := range m.specs {
		h.Specs = append(h.Specs, ref)
	}
	h.Buckets = m.board.sums()
	h.Topics = make(map[string][]uint64, len(m.folders))
	for topic, f := range m.folders {
		h.Topics[topic] = f.sum()
	}
}

// distrust asks for everything at the next greeting, and goes on showing what it has.
func (m *mirror) distrust() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, t := range m.tasks {
		t.Sum = 0
		m.tasks[id] = t
	}
	m.specs, m.board.stale = map[string]any{}, true
	for _, f := range m.folders {
		f.stale = true
	}
}

// maxParts bounds what waits for the last part of an update.
const maxParts = 4096

// take takes in a part of an update, and all parts with the last one. A part
// that makes no sense is an error, and nothing of the update is taken in.
func (m *mirror) take(u *update) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.old = false
	if m.parts = append(m.parts, *u); u.More {
		if len(m.parts) > maxParts {
			return errors.New("an update without an end")
		}
		return nil
	}
	list := m.parts
	m.parts = nil
	return m.takeLocked(list)
}

func (m *mirror) takeLocked(list []update) error {
	specs := map[string]any{}
	find := func(ref string) (any, bool) {
		if v, ok := specs[ref]; ok {
			return v, true
		}
		v, ok := m.specs[ref]
		return v, ok
	}
	var tasks []mirrored
	boards := make([]map[string]copied, len(list))
	directories := make([][]*changes, len(list))
	for i := range list {
		for _, s := range list[i].Specs {
			v, err := s.decode()
			if err != nil {
				return err
			}
			specs[s.Ref] = v
		}
		for _, item := range list[i].Tasks {
			a, err := item.assignment(find)
			if err != nil {
				return err
			}
			tasks = append(tasks, mirrored{item, a})
		}
		if b := list[i].Board; b != nil {
			var err error
			if boards[i], err = b.decode(); err != nil {
				return fmt.Errorf("view of the cluster: %w", err)
			}
		}
		for _, t := range list[i].Topics {
			c, err := t.decode()
			if err != nil {
				return fmt.Errorf("directory of %q: %w", t.Topic, err)
			}
			directories[i] = append(directories[i], c)
		}
	}
	// From here on nothing fails.
	for ref, v := range specs {
		m.specs[ref] = v
	}
	for _, t := range tasks {
		if old, ok := m.tasks[t.Task.ID]; ok {
			t.assignment.Task.Status = newest(old.assignment.Task.Status, t.assignment.Task.Status)
		}
		m.tasks[t.Task.ID] = t
	}
	for i, u := range list {
		for _, id := range u.Gone {
			delete(m.tasks, id)
		}
		for _, ref := range u.Drop {
			delete(m.specs, ref)
		}
		if u.Board != nil {
			m.board.take(u.Board, boards[i])
		}
		for k := range u.Topics {
			m.fileLocked(&u.Topics[k], directories[i][k])
		}
		m.index = u.Index
	}
	m.showLocked()
	return nil
}

// fileLocked takes in the news of one topic.
func (m *mirror) fileLocked(n *topicNews, c *changes) {
	if n.End {
		delete(m.folders, n.Topic)
		return
	}
	f := m.folders[n.Topic]
	if f == nil {
		f = newFolder()
		m.folders[n.Topic] = f
	}
	f.take(n, c)
}

// directory of a topic; nil: none.
func (m *mirror) directory(topic string) *stack.Directory {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.folders[topic]; f != nil {
		return f.dir
	}
	return nil
}

// newest prefers what this node itself has observed.
func newest(mine, theirs stack.TaskStatus) stack.TaskStatus {
	if theirs.Time.After(mine.Time) {
		return theirs
	}
	return mine
}

// decode reads a spec.
func (s *spec) decode() (any, error) {
	var v any
	var err error
	switch s.Kind {
	case kindService:
		x := &stack.Service{}
		err, v = json.Unmarshal(s.Data, x), x
	case kindStack:
		x := &stack.Stack{}
		err, v = json.Unmarshal(s.Data, x), x
	case kindConfig, kindSecret:
		var x []byte
		err = json.Unmarshal(s.Data, &x)
		if x == nil {
			x = []byte{}
		}
		v = x
		if s.Kind == kindSecret {
			v = secretData(x)
		}
	default:
		err = fmt.Errorf("kind %q is not known", s.Kind)
	}
	if err != nil || s.Ref == "" {
		return nil, fmt.Errorf("spec %q: %w", s.Ref, errors.Join(err))
	}
	return v, nil
}

// secretData is the content of a secret: it is not written to the cache.
type secretData []byte

// assignment puts a task together with what it refers to.
func (t *taskItem) assignment(find func(ref string) (any, bool)) (stack.Assignment, error) {
	a := stack.Assignment{Task: t.Task, Hash: t.Hash, Auth: t.Auth}
	if t.Task.ID == "" {
		return a, errors.New("task without ID")
	}
	missing := func(what, ref string) error {
		return fmt.Errorf("task %s: its %s %q has not been sent", t.Task.ID, what, ref)
	}
	if t.Service != "" {
		v, _ := find(t.Service)
		s, ok := v.(*stack.Service)
		if !ok {
			return a, missing("service", t.Service)
		}
		a.Service = s
	}
	if t.Stack != "" {
		v, _ := find(t.Stack)
		s, ok := v.(*stack.Stack)
		if !ok {
			return a, missing("stack", t.Stack)
		}
		a.Stack = s
	}
	if t.Secrets != nil {
		a.Secrets = make(map[string][]byte, len(t.Secrets))
		for key, ref := range t.Secrets {
			v, _ := find(ref)
			data, ok := v.(secretData)
			if !ok {
				return a, missing("secret", ref)
			}
			a.Secrets[key] = data
		}
	}
	if t.Configs != nil {
		a.Configs = make(map[string][]byte, len(t.Configs))
		for key, ref := range t.Configs {
			v, _ := find(ref)
			data, ok := v.([]byte)
			if !ok {
				return a, missing("config", ref)
			}
			a.Configs[key] = data
		}
	}
	return a, nil
}

// told is what a manager in this process says. What is nil is as it was.
type told struct {
	index  uint64
	tasks  *[]stack.Assignment
	view   *View
	topics []string // all there are
	news   []binder
}

// binder is what there is of some keys of a topic; of all, without keys.
type binder struct {
	topic string
	keys  []string
	dir   *stack.Directory
}

// set replaces what a manager in this process has told anew.
func (m *mirror) set(t told) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.specs, m.parts, m.index, m.old = map[string]any{}, nil, t.index, false
	if t.tasks != nil {
		m.tasks = make(map[string]mirrored, len(*t.tasks))
		for _, a := range *t.tasks {
			m.tasks[a.Task.ID] = mirrored{taskItem{Task: a.Task}, a}
		}
	}
	if t.topics != nil {
		maps.DeleteFunc(m.folders, func(topic string, _ *folder) bool { return !slices.Contains(t.topics, topic) })
	}
	for _, b := range t.news {
		f := m.folders[b.topic]
		if f == nil {
			f = newFolder()
			m.folders[b.topic] = f
		}
		f.set(b.dir, b.keys)
	}
	if v := t.view; v != nil {
		m.board = newCopyBoard()
		m.board.stale = true
		for _, it := range items(*v) {
			m.board.items[it.key] = it.copied()
		}
	}
	m.showLocked()
}

// showLocked makes what readers get.
func (m *mirror) showLocked() {
	list := make([]stack.Assignment, 0, len(m.tasks))
	for _, t := range m.tasks {
		list = append(list, t.assignment)
	}
	slices.SortFunc(list, func(a, b stack.Assignment) int { return strings.Compare(a.Task.ID, b.Task.ID) })
	m.list, m.view = list, m.board.view()
	m.version++
	close(m.change)
	m.change = make(chan struct{})
	if !m.old {
		m.settle()
	}
}

// kept says whether what is shown is from before this start.
func (m *mirror) kept() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.old
}

// settle lets what is shown count.
func (m *mirror) settle() { m.once.Do(func() { close(m.ready) }) }

// observed keeps what this node has reported, so that it need not be told.
func (m *mirror) observed(reports []stack.TaskReport) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range reports {
		t, ok := m.tasks[r.Task]
		if !ok {
			continue
		}
		t.assignment.Task.Status = r.Status
		m.tasks[r.Task] = t
	}
	m.list = slices.Clone(m.list)
	for i := range m.list {
		m.list[i].Task.Status = m.tasks[m.list[i].Task.ID].assignment.Task.Status
	}
	m.version++
}

func (m *mirror) assignments() []stack.Assignment {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.list)
}

func (m *mirror) changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.change
}

// now is the version of what is shown.
func (m *mirror) now() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.version
}

func (m *mirror) shown() (View, uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.view, m.index
}
