package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dhow-project/dhow/cluster/consensus"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// voterStep is the next step that brings consensus in line with the nodes'
// roles; at most one field is set.
type voterStep struct {
	add    string // node that is to get a vote
	remove string // node that is to lose its part
}

// nextVoter decides one step. Those that are no nodes any more go first: they
// cannot answer, and a majority is to be found without them. Then managers are
// added before others go, so that a replacement never leaves fewer than there
// were; the leader itself goes last. tried holds nodes that could not be added a
// moment ago.
func nextVoter(nodes []*stack.Node, members []consensus.Member, self string, tried map[string]bool) voterStep {
	votes := map[string]bool{}
	for _, v := range members {
		votes[v.ID] = v.Voter
	}
	manager := map[string]bool{}
	for _, n := range nodes {
		manager[n.ID] = n.Role == stack.RoleManager
	}
	for _, v := range members {
		if _, ok := manager[v.ID]; !ok && v.ID != self {
			return voterStep{remove: v.ID}
		}
	}
	for _, n := range nodes {
		if manager[n.ID] && !votes[n.ID] && !n.Down && n.Addr != "" && !tried[n.ID] {
			return voterStep{add: n.ID}
		}
	}
	others := slices.DeleteFunc(slices.Clone(members), func(v consensus.Member) bool { return manager[v.ID] || v.ID == self })
	switch {
	case len(others) > 0:
		return voterStep{remove: others[0].ID}
	case !manager[self] && len(members) > 1:
		return voterStep{remove: self}
	}
	return voterStep{}
}

// errTryAgain makes follow come back: some managers could not be given a vote.
var errTryAgain = errors.New("managers without a vote are tried again")

// addPatience is how long a node may take to come and catch up before the next
// step is looked at. It stays without a vote until then, and is tried again.
const addPatience = 10 * time.Second

// followRoles brings consensus in line with the nodes' roles while this manager leads.
func (m *Manager) followRoles(ctx context.Context) error {
	tried := map[string]bool{}
	return m.follow(ctx, "follow roles", func(snap *state.Snapshot) (bool, error) {
		step := nextVoter(snap.Nodes(), m.raft.Members(), m.node, tried)
		switch {
		case step.add != "":
			if err := m.addVoter(ctx, step.add); err != nil {
				tried[step.add] = true
				return true, fmt.Errorf("give %s a vote: %w", step.add, err)
			}
			m.log.Info("manager has a vote", "node", step.add)
			return true, nil
		case step.remove != "":
			if err := m.raft.Remove(ctx, step.remove, false); err != nil {
				return false, fmt.Errorf("take the vote of %s: %w", step.remove, err)
			}
			m.log.Info("manager lost its vote", "node", step.remove)
			return true, nil
		}
		again := len(tried) > 0
		clear(tried)
		if again {
			return false, errTryAgain
		}
		return false, nil
	})
}

// addVoter gives a node a vote, as long as that is the next thing to do: a node
// that is demoted or removed meanwhile is not waited for.
func (m *Manager) addVoter(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, addPatience)
	defer cancel()
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() {
		for {
			changed := m.store.Changed()
			if n := m.store.Snapshot().Node(node); n == nil || n.Role != stack.RoleManager || n.Down {
				cancel()
			}
			if !wait(ctx, changed, time.Time{}) {
				return
			}
		}
	})
	return m.raft.AddVoter(ctx, node)
}
