package engine

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"golang.org/x/sys/unix"
)

// sharing is what a container takes from others.
type sharing struct {
	netNS, pidNS, ipcNS string // paths
	shm                 string // host directory of the shared /dev/shm
	files               string // directory of the hosts, hostname and resolv.conf of the network's owner
	open                []int  // namespaces, held until the start is over
}

func (s *sharing) close() {
	for _, fd := range s.open {
		unix.Close(fd)
	}
	s.open = nil
}

// share finds the namespaces of the containers that rec joins; they must run.
func (e *Engine) share(ctx context.Context, rec record, out *sharing) error {
	for _, m := range []struct {
		mode, name string
		path       *string
	}{
		{rec.Spec.NetworkMode, "net", &out.netNS},
		{rec.Spec.PIDMode, "pid", &out.pidNS},
		{rec.Spec.IPCMode, "ipc", &out.ipcNS},
	} {
		ref, ok := strings.CutPrefix(m.mode, "container:")
		if !ok {
			continue
		}
		other, err := e.find(ref)
		if err != nil {
			return fmt.Errorf("join %s namespace: %w", m.name, err)
		}
		if *m.path, err = out.namespace(ctx, other, m.name); err != nil {
			return fmt.Errorf("join %s namespace of container %s: %w", m.name, other.name(), err)
		}
		switch m.name {
		case "net":
			out.files = e.bundleDir(other.id)
		case "ipc":
			if other.spec().IPCMode != "shareable" {
				return fmt.Errorf("join ipc namespace of container %s: its ipc mode is not shareable: %w", other.name(), runtime.ErrInvalid)
			}
			out.shm = e.bundleDir(other.id) + "/shm"
		}
	}
	return nil
}

// namespace opens a namespace of a running container and returns a path under
// which the runtime finds it. The path leads through the open file: one through
// the process's number could lead to another process's before it is used.
func (s *sharing) namespace(ctx context.Context, c *container, name string) (string, error) {
	r, _ := c.current()
	if r == nil {
		return "", runtime.ErrNotRunning
	}
	fd, err := c.openProcess(ctx, r, "ns/"+name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	s.open = append(s.open, fd)
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), nil
}

// sandboxOf is what the container wants of the network; nil when it has no
// network namespace of its own.
func sandboxOf(rec record) *overlaynet.Sandbox {
	s := rec.Spec
	if s.NetworkMode == "host" || strings.HasPrefix(s.NetworkMode, "container:") {
		return nil
	}
	sb := &overlaynet.Sandbox{
		ID: rec.ID, Name: rec.Name, DNSNames: []string{rec.Name, short(rec.ID)},
		Ports: s.Ports, PublishAll: s.PublishAll, DNS: s.DNS, DNSSearch: s.DNSSearch, DNSOptions: s.DNSOptions,
		PortGroup: portGroup(s.Labels), Stack: s.Labels["com.docker.compose.project"],
	}
	if s.Hostname != "" && s.Hostname != short(rec.ID) {
		sb.DNSNames = append(sb.DNSNames, s.Hostname)
	}
	sb.Exposed = append(append(sb.Exposed, rec.Image.ExposedPorts...), s.Expose...)
	if s.NetworkMode == "none" {
		sb.None = true
		return sb
	}
	sb.Attachments = attachments(rec)
	return sb
}

// attachments are the networks of the spec, or the one that its mode names;
// plain containers are on "bridge". After a change by hand the list counts,
// unless nothing is left of it: then, as in Docker, it begins anew.
func attachments(rec record) []stack.Attachment {
	s := rec.Spec
	list := append([]stack.Attachment(nil), s.Networks...)
	if rec.Rewired && len(list) > 0 {
		return list
	}
	mode := s.NetworkMode
	if mode == "default" || (mode == "" && len(list) == 0) {
		mode = "bridge"
	}
	if mode != "" {
		at := -1
		for i, a := range list {
			if a.Network == mode {
				at = i
			}
		}
		if at < 0 {
			list = append([]stack.Attachment{{Network: mode}}, list...)
			at = 0
		}
		list[0], list[at] = list[at], list[0]
	}
	if s.MacAddress != "" && list[0].MacAddress == "" {
		list[0].MacAddress = s.MacAddress
	}
	return list
}

// portGroup is the service that the container belongs to: its replicas share
// published ports.
func portGroup(labels map[string]string) string {
	project, service := labels["com.docker.compose.project"], labels["com.docker.compose.service"]
	if project == "" || service == "" || labels["com.docker.compose.oneoff"] == "True" {
		return ""
	}
	return project + "/" + service
}
