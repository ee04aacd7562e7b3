package dispatch

import (
	"fmt"
	"maps"
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// dump makes one update of all that a mirror shows, without the content of
// secrets and without logins; false before there was a complete answer.
func (m *mirror) dump() (*update, uint64, bool) {
	m.mu.Lock()
	list, view, index, version := m.list, m.view, m.index, m.version
	directories, err := m.dumpTopicsLocked()
	m.mu.Unlock()
	if version == 0 || err != nil {
		return nil, 0, false
	}
	d := newDiffer(newSpecBook(), nil, nil)
	bare := make([]stack.Assignment, len(list))
	copy(bare, list)
	names := map[string]map[string]string{}
	for i := range bare {
		bare[i].Auth = nil
		if bare[i].Secrets == nil {
			continue
		}
		keys := map[string]string{}
		for key := range bare[i].Secrets {
			keys[key] = ""
		}
		names[bare[i].Task.ID], bare[i].Secrets = keys, nil
	}
	parts, err := d.next(bare, true, nil)
	if err != nil {
		return nil, 0, false
	}
	out := &update{Index: index, Board: &news{}, Topics: directories}
	for _, p := range parts {
		out.Specs = append(out.Specs, p.Specs...)
		out.Tasks = append(out.Tasks, p.Tasks...)
	}
	for i := range out.Tasks {
		out.Tasks[i].Secrets = names[out.Tasks[i].Task.ID]
	}
	view.Keys = nil // gossip has its own place for them
	if out.Board.Items, err = notices(view); err != nil {
		return nil, 0, false
	}
	return out, version, true
}

// dumpTopicsLocked makes news of all directories.
func (m *mirror) dumpTopicsLocked() ([]topicNews, error) {
	var out []topicNews
	for _, topic := range slices.Sorted(maps.Keys(m.folders)) {
		list, err := m.folders[topic].notices()
		if err != nil {
			return nil, err
		}
		out = append(out, topicNews{Topic: topic, News: &news{Items: list}})
	}
	return out, nil
}

// restore shows what dump wrote; it counts after settle. The next leader is asked for everything.
func (m *mirror) restore(u *update) error {
	secrets := map[string]map[string]string{}
	for i := range u.Tasks {
		if s := u.Tasks[i].Secrets; s != nil {
			secrets[u.Tasks[i].Task.ID] = s
			u.Tasks[i].Secrets = nil
		}
	}
	u.More = false
	m.mu.Lock()
	m.old = true
	err := m.takeLocked([]update{*u})
	m.mu.Unlock()
	if err != nil {
		return fmt.Errorf("take in what was kept: %w", err)
	}
	m.distrust()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.list {
		if secrets[m.list[i].Task.ID] != nil {
			m.list[i].Secrets = map[string][]byte{} // it has some, which are not here
		}
	}
	return nil
}
