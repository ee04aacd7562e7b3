package node

import (
	"github.com/dhow-project/dhow/runtime/agent"
	"github.com/dhow-project/dhow/stack"
)

// outcast is what the agent sees of its tasks: none once the cluster has
// removed this node, as they run elsewhere then.
type outcast struct {
	agent.Source
	epoch   *epoch
	pending <-chan struct{} // of Source, that has not been closed yet; of the agent's goroutine
}

func (o *outcast) Assignments(node string) []stack.Assignment {
	if m := o.epoch.memberNow(); m != nil && m.Removed {
		return nil
	}
	return o.Source.Assignments(node)
}

// Changed is closed when Assignments may answer otherwise.
func (o *outcast) Changed() <-chan struct{} {
	o.epoch.mu.Lock()
	began, ctx := o.epoch.began, o.epoch.ctx
	o.epoch.mu.Unlock()
	select {
	case <-o.pending: // it is over
		o.pending = nil
	default:
	}
	if o.pending == nil {
		o.pending = o.Source.Changed()
	}
	changed, out := o.pending, make(chan struct{})
	go func() {
		defer close(out)
		select {
		case <-changed:
		case <-began:
		case <-ctx.Done():
		}
	}()
	return out
}
