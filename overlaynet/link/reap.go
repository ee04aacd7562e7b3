package link

import (
	"errors"
	"slices"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// reaper removes links. The kernel takes about 30 ms to remove one, and as
// long for many at once: requests that wait for their turn together are put
// into one group of links and go together.
type reaper struct {
	mu    sync.Mutex
	queue []string      // guarded by mu
	done  chan struct{} // guarded by mu: closed when the removal of the queue's links has been tried
	err   *error        // guarded by mu: set before done is closed
	turn  sync.Mutex    // held while links are removed
}

// remove removes the links; those that are gone already are no error. When
// the links of several callers cannot be removed together, each removes its
// own: what stands in the way of one is no news about the others.
func (l *Links) remove(names ...string) error {
	if len(names) == 0 {
		return nil
	}
	r := &l.reaper
	r.mu.Lock()
	leads := r.done == nil
	if leads {
		r.done, r.err = make(chan struct{}), new(error)
	}
	r.queue = append(r.queue, names...)
	done, err := r.done, r.err
	r.mu.Unlock()
	if leads {
		l.removeQueue()
	}
	<-done
	if *err == nil {
		return nil
	}
	var errs []error
	for _, n := range names {
		errs = append(errs, l.removeTogether([]string{n}))
	}
	return errors.Join(errs...)
}

// removeQueue removes what waits when its turn has come.
func (l *Links) removeQueue() {
	r := &l.reaper
	r.turn.Lock()
	defer r.turn.Unlock()
	r.mu.Lock()
	all, done, err := r.queue, r.done, r.err
	r.queue, r.done, r.err = nil, nil, nil
	r.mu.Unlock()
	*err = l.removeTogether(all)
	close(done)
}

func (l *Links) removeTogether(names []string) error {
	gone := []unix.Errno{unix.ENODEV}
	if len(names) == 1 {
		return l.host.do(step{"remove " + names[0], delLink(names[0]), gone})
	}
	group := markHash(l.mark) | 1<<31 // links of nobody else are in it: 0 is the default
	var errs []error
	for some := range slices.Chunk(names, most-1) { // in one write: a process that is killed leaves no link in the group
		var steps []step
		for _, n := range some {
			steps = append(steps, step{"remove " + n, setGroup(n, group), gone})
		}
		errs = append(errs, l.host.do(append(steps, step{"remove links", delGroup(group), gone})...))
	}
	return errors.Join(errs...)
}

func setGroup(name string, group uint32) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, 0)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nul(name)))
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)))
	return req
}

func delGroup(group uint32) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_DELLINK, 0)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)))
	return req
}
