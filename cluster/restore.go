package cluster

import (
	"context"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/dhow-project/dhow/cluster/consensus"
	"github.com/dhow-project/dhow/cluster/seal"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// RestoreSnapshot replaces the state of the whole cluster by an archive, in one
// step. What this cluster is stays: its ID, authority, tokens and nodes. A node
// of the archive that has a namesake here is taken for it; what is sealed is
// sealed anew with this cluster's keys.
func (m *Manager) RestoreSnapshot(ctx context.Context, r io.Reader) error {
	if err := m.turn(ctx); err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	defer m.write.Unlock()
	now := m.store.Snapshot()
	if now.Cluster() == nil {
		return fmt.Errorf("restore snapshot: %w", ErrNotLeader)
	}
	_, err := m.raft.Restore(ctx, r, func(s *state.Store, h consensus.Header) error {
		keys, err := seal.Of(h.Extra[sealKeys])
		if len(h.Extra[sealKeys]) == 0 {
			keys, err = &seal.Ring{}, nil
		}
		if err != nil {
			return fmt.Errorf("%w: keys of the archive: %w", runtime.ErrInvalid, err)
		}
		t := transplant{now: now, then: s.Snapshot(), seal: m.cfg.Seal, keys: keys}
		changes, err := t.changes()
		if err != nil {
			return err
		}
		return s.Apply(h.Index, state.Command{Time: time.Now().UnixNano(), Changes: changes})
	})
	if err != nil {
		return leadership(err)
	}
	m.log.Warn("the cluster's state was replaced by a snapshot's")
	return nil
}

// transplant makes the state of an archive that of this cluster.
type transplant struct {
	now, then *state.Snapshot
	seal      Sealer
	keys      *seal.Ring // of the archive
	twins     map[string]string
}

func (t *transplant) changes() ([]state.Change, error) {
	t.twins = twins(t.then.Nodes(), t.now.Nodes())
	out := t.nodes()
	for _, part := range []func() ([]state.Change, error){t.cluster, t.stacks, t.contents} {
		more, err := part()
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	for _, v := range t.then.Volumes() {
		if twin := t.twins[v.Node]; twin != "" && twin != v.Node {
			moved := *v
			moved.Node = twin
			out = append(out, state.Change{Volume: &moved})
		}
	}
	return out, nil
}

// twins tells which node of this cluster a node of the archive is: the one of
// its ID, or else the only one of its host name.
func twins(then, now []*stack.Node) map[string]string {
	is, named := map[string]bool{}, map[string][]string{}
	for _, n := range now {
		is[n.ID] = true
		named[n.Hostname] = append(named[n.Hostname], n.ID)
	}
	out := map[string]string{}
	for _, n := range then {
		if list := named[n.Hostname]; is[n.ID] {
			out[n.ID] = n.ID
		} else if len(list) == 1 && n.Hostname != "" {
			out[n.ID] = list[0]
		}
	}
	return out
}

// nodes are those of now. One that has no labels yet gets those of its twin.
func (t *transplant) nodes() (out []state.Change) {
	labels := map[string]map[string]string{}
	for _, n := range t.then.Nodes() {
		if t.now.Node(n.ID) == nil {
			out = append(out, state.Change{Delete: &state.Key{Table: state.TableNode, Name: n.ID}})
		}
		if twin := t.twins[n.ID]; twin != "" && len(n.Labels) > 0 {
			labels[twin] = n.Labels
		}
	}
	for _, n := range t.now.Nodes() {
		c := *n
		if len(c.Labels) == 0 {
			c.Labels = maps.Clone(labels[c.ID])
		}
		out = append(out, state.Change{Node: &c})
	}
	return out
}

// cluster keeps what nodes hold certificates and keys of.
func (t *transplant) cluster() ([]state.Change, error) {
	c := *t.now.Cluster()
	if then := t.then.Cluster(); then != nil {
		port := c.Settings.DataPathPort
		c.Settings = then.Settings
		c.Settings.DataPathPort = port
		if len(then.SumKey) > 0 { // the sums of the contents are of it
			key, err := t.again(then.SumKey, aboutSums)
			if err != nil {
				return nil, err
			}
			c.SumKey = key
		}
	}
	c.Version++
	return []state.Change{{Cluster: &c}}, nil
}

// stacks have their logins, and a home among the nodes of now.
func (t *transplant) stacks() (out []state.Change, err error) {
	for _, s := range t.then.Stacks() {
		c := *s
		twin := t.twins[c.Spec.Home]
		if len(c.Logins) == 0 && (twin == "" || twin == c.Spec.Home) {
			continue
		}
		if twin != "" {
			c.Spec.Home = twin
		}
		if len(c.Logins) > 0 {
			if c.Logins, err = t.again(c.Logins, aboutLogins(c.Name)); err != nil {
				return nil, err
			}
		}
		out = append(out, state.Change{Stack: &c})
	}
	return out, nil
}

// contents are those of secrets and configs.
func (t *transplant) contents() (out []state.Change, err error) {
	for _, s := range t.then.Secrets() {
		c := *s
		if c.Versions, err = t.versions(kindSecret, s.Versions); err != nil {
			return nil, err
		}
		out = append(out, state.Change{Secret: &c})
	}
	for _, s := range t.then.Configs() {
		c := *s
		if c.Versions, err = t.versions(kindConfig, s.Versions); err != nil {
			return nil, err
		}
		out = append(out, state.Change{Config: &c})
	}
	return out, nil
}

func (t *transplant) versions(kind string, list []state.Content) (out []state.Content, err error) {
	for _, v := range list {
		if v.Sealed, err = t.again(v.Sealed, aboutContent(kind, v.Sum)); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// again seals with this cluster's key what was sealed with one of the archive's.
func (t *transplant) again(sealed []byte, about string) ([]byte, error) {
	if _, err := t.seal.Open(sealed, about); err == nil {
		return sealed, nil
	}
	plain, err := t.keys.Open(sealed, about)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", runtime.ErrInvalid, err)
	}
	return t.seal.Seal(plain, about)
}
