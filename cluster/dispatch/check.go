package dispatch

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// Bounds of what a peer may send, far above what is of use.
const (
	maxReports     = 4096
	maxTasks       = 100_000 // of one node
	maxNames       = 20_000  // images, volumes
	maxTopics      = 10_000  // of one node
	maxRanges      = 1024
	maxProblems    = 32
	maxText        = 4096     // bytes of a name
	maxMessageText = 16 << 10 // bytes of a status message
	maxHealth      = 32       // bytes of a health
	maxCount       = 1 << 40  // restarts
)

// check refuses a message that breaks the rules; first is the greeting.
func (m *fromClient) check(first bool) error {
	n := 0
	for _, set := range []bool{m.Hello != nil, m.Beat != nil, m.Report != nil, m.Describe != nil} {
		if set {
			n++
		}
	}
	if n != 1 || first != (m.Hello != nil) {
		return errors.New("a session begins with a greeting, and each message says one thing")
	}
	switch {
	case m.Hello != nil:
		return m.Hello.check()
	case m.Report != nil:
		return m.Report.check()
	case m.Describe != nil:
		return m.Describe.check()
	}
	return nil
}

func (h *hello) check() error {
	if h.Protocol != protocol {
		return fmt.Errorf("this manager speaks version %d of the session protocol, the node version %d: update the older one", protocol, h.Protocol)
	}
	if len(h.Tasks) > maxTasks || len(h.Specs) > 4*maxTasks {
		return fmt.Errorf("%d tasks, %d specs: too many", len(h.Tasks), len(h.Specs))
	}
	if len(h.Buckets) != 0 && len(h.Buckets) != buckets {
		return fmt.Errorf("%d buckets instead of %d", len(h.Buckets), buckets)
	}
	if len(h.Lost) > maxText {
		return fmt.Errorf("a leader's ID of %d bytes", len(h.Lost))
	}
	for id := range h.Tasks {
		if !name(id) {
			return fmt.Errorf("task ID of %d bytes", len(id))
		}
	}
	if err := h.checkTopics(); err != nil {
		return err
	}
	return h.Description.check()
}

// checkTopics bounds what the node says that it has of directories.
func (h *hello) checkTopics() error {
	if len(h.Topics) > maxTopics {
		return fmt.Errorf("%d topics: too many", len(h.Topics))
	}
	for topic, sums := range h.Topics {
		if len(topic) > maxText || len(sums) > maxSums {
			return fmt.Errorf("a topic of %d bytes with %d sums", len(topic), len(sums))
		}
	}
	return nil
}

func (r *report) check() error {
	if len(r.Reports) > maxReports {
		return fmt.Errorf("%d statuses in a report", len(r.Reports))
	}
	return nil
}

// usable are the statuses that can be stored, the last one of each task, and why
// the first other one cannot.
func (r *report) usable() (out []stack.TaskReport, bad error) {
	out = make([]stack.TaskReport, 0, len(r.Reports))
	at := make(map[string]int, len(r.Reports))
	for _, s := range r.Reports {
		err := checkStatus(s.Status)
		if err == nil && !name(s.Task) {
			err = fmt.Errorf("ID of %d bytes", len(s.Task))
		}
		if err != nil {
			if bad == nil {
				bad = fmt.Errorf("status of task %.64q: %w", s.Task, err)
			}
			continue
		}
		if i, has := at[s.Task]; has {
			out[i] = s
			continue
		}
		at[s.Task] = len(out)
		out = append(out, s)
	}
	return out, bad
}

// checkStatus lets a node only say what its agent could have seen.
func checkStatus(s stack.TaskStatus) error {
	if s.State < stack.TaskNew || s.State > stack.TaskRemoved {
		return fmt.Errorf("state %d", s.State)
	}
	if len(s.Message) > maxMessageText {
		return fmt.Errorf("message of %d bytes", len(s.Message))
	}
	if y := s.Time.UTC().Year(); y < 1 || y > 9999 {
		return fmt.Errorf("time in the year %d", y) // JSON has none for it
	}
	if s.Restarts > maxCount || s.RestartCount < 0 || s.RestartCount > maxCount || s.ExitCode < math.MinInt32 || s.ExitCode > math.MaxUint32 {
		return errors.New("a number is out of bounds")
	}
	if len(s.ContainerID) > maxText || len(s.ImageID) > maxText || len(s.Health) > maxHealth || len(s.Followed) > maxText || len(s.Anonymous) > maxText {
		return errors.New("a field is too long")
	}
	for target, volume := range s.Anonymous {
		if len(target) > maxText || !name(volume) {
			return errors.New("an anonymous volume's name is too long")
		}
	}
	return nil
}

func (d *Description) check() error {
	if len(d.Images) > maxNames || len(d.Volumes) > maxNames {
		return fmt.Errorf("%d images, %d volumes: too many", len(d.Images), len(d.Volumes))
	}
	for _, list := range [][]string{d.Images, d.Volumes} {
		for _, s := range list {
			if !name(s) {
				return fmt.Errorf("name of %d bytes", len(s))
			}
		}
	}
	n := d.Node
	if len(n.Ranges) > maxRanges || len(n.Addrs) > maxRanges || len(n.Problems) > maxProblems {
		return fmt.Errorf("%d ranges, %d addresses, %d problems: too many", len(n.Ranges), len(n.Addrs), len(n.Problems))
	}
	for _, s := range slices.Concat(n.Ranges, n.Addrs, n.Problems) {
		if len(s) > maxText {
			return fmt.Errorf("range, address or problem of %d bytes", len(s))
		}
	}
	for _, s := range []string{n.ID, n.Hostname, n.Addr, n.DataAddr, n.Gossip, n.Version, n.Issuer, n.OS, n.Architecture} {
		if len(s) > maxText {
			return fmt.Errorf("field of %d bytes", len(s))
		}
	}
	if len(n.EngineLabels) > maxText || len(n.Generic) > maxText || n.NanoCPUs < 0 || n.Memory < 0 {
		return errors.New("resources or labels out of bounds")
	}
	for k, v := range n.EngineLabels {
		if len(k) > maxText || len(v) > maxText {
			return errors.New("engine label too long")
		}
	}
	for k, v := range n.Generic {
		if len(k) > maxText || v < 0 {
			return errors.New("generic resource out of bounds")
		}
	}
	return nil
}

// bounded leaves out what a leader would refuse.
func (d Description) bounded() Description {
	names := func(list []string) []string {
		list = slices.DeleteFunc(slices.Clone(list), func(s string) bool { return !name(s) })
		return list[:min(len(list), maxNames)]
	}
	d.Images, d.Volumes = names(d.Images), names(d.Volumes)
	return d
}

// bounded cuts a message that a leader would refuse.
func bounded(list []stack.TaskReport) []stack.TaskReport {
	list = slices.Clone(list)
	for i := range list {
		if m := list[i].Status.Message; len(m) > maxMessageText {
			list[i].Status.Message = strings.ToValidUTF8(m[:maxMessageText-3], "") + "..."
		}
	}
	return list
}

func name(s string) bool { return s != "" && len(s) <= maxText }

// check refuses a leader's message that breaks the rules; first is the welcome, or a refusal.
func (m *fromServer) check(first bool) error {
	n := 0
	for _, set := range []bool{m.Welcome != nil, m.Ack != nil, m.Reported != nil, m.Update != nil, m.Bye != nil} {
		if set {
			n++
		}
	}
	if n != 1 || m.Bye == nil && first != (m.Welcome != nil) {
		return errors.New("the manager's message is none of a session")
	}
	switch {
	case m.Welcome != nil:
		if m.Welcome.Protocol != protocol {
			return fmt.Errorf("the manager speaks version %d of the session protocol, this node version %d: update the older one", m.Welcome.Protocol, protocol)
		}
		return m.Welcome.Terms.check()
	case m.Ack != nil:
		return m.Ack.Terms.check()
	}
	return nil
}

func (t Terms) check() error {
	if t.Beat < time.Millisecond || t.Beat > time.Hour || t.Lease < 2*t.Beat || t.Lease > 24*time.Hour {
		return fmt.Errorf("lease of %v with a heartbeat each %v", t.Lease, t.Beat)
	}
	return nil
}
