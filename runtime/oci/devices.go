package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// devices: the nodes asked for and the cgroup rules that let them be used. The
// runtime itself adds null, zero, tty and their like.
func (b *builder) devices() error {
	c, res := b.in.Spec, b.s.Linux.Resources
	if c.Privileged {
		res.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		devs, err := tree("/dev", "/dev")
		if err != nil {
			return err
		}
		b.s.Linux.Devices = devs
	} else {
		res.Devices = []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	}
	for _, d := range c.Devices {
		if err := b.device(d); err != nil {
			return fmt.Errorf("device %s: %w", d.Source, err)
		}
	}
	for _, rule := range c.DeviceCgroupRules {
		r, err := parseDeviceRule(rule)
		if err != nil {
			return err
		}
		res.Devices = append(res.Devices, r)
	}
	return nil
}

// CheckDevice finds what is wrong with a device that a container asks for.
func CheckDevice(d stack.Device) error {
	_, err := nodes(d)
	return err
}

// nodes are the device nodes that d means on this machine.
func nodes(d stack.Device) ([]specs.LinuxDevice, error) {
	if !strings.HasPrefix(d.Source, "/") {
		if strings.Contains(d.Source, "=") {
			return nil, invalid("CDI devices are not supported")
		}
		return nil, invalid("not an absolute path")
	}
	if strings.Trim(d.Permissions, "rwm") != "" {
		return nil, invalid("permissions %q: want letters of rwm", d.Permissions)
	}
	source, err := filepath.EvalSymlinks(d.Source)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, invalid("does not exist")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, runtime.ErrInvalid)
	}
	return tree(source, path.Clean(first(d.Target, d.Source)))
}

func (b *builder) device(d stack.Device) error {
	devs, err := nodes(d)
	if err != nil {
		return err
	}
	access := first(d.Permissions, "rwm")
	for _, dev := range devs {
		b.s.Linux.Devices = append(b.s.Linux.Devices, dev)
		b.s.Linux.Resources.Devices = append(b.s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{
			Allow: true, Type: dev.Type, Major: ptr(dev.Major), Minor: ptr(dev.Minor), Access: access,
		})
	}
	return nil
}

// skipped below /dev: the container has its own.
var skipped = map[string]bool{"pts": true, "shm": true, "fd": true, "mqueue": true, ".lxc": true, ".lxd-mounts": true, ".udev": true, "console": true}

// tree is one device node, or all nodes below a directory.
func tree(source, target string) ([]specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Lstat(source, &st); err != nil {
		return nil, fmt.Errorf("%w: %w", err, runtime.ErrInvalid)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		return []specs.LinuxDevice{node(target, &st)}, nil
	case unix.S_IFDIR:
	default:
		return nil, invalid("not a device node")
	}
	entries, err := os.ReadDir(source)
	if err != nil {
		return nil, err
	}
	var out []specs.LinuxDevice
	for _, e := range entries {
		name := e.Name()
		usable := e.IsDir() || e.Type()&os.ModeDevice != 0
		if !usable || (source == "/dev" && skipped[name]) {
			continue
		}
		below, err := tree(path.Join(source, name), path.Join(target, name))
		if err != nil {
			continue // gone between the listing and now
		}
		out = append(out, below...)
	}
	return out, nil
}

func node(target string, st *unix.Stat_t) specs.LinuxDevice {
	kind := "c"
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		kind = "b"
	}
	return specs.LinuxDevice{
		Path: target, Type: kind,
		Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		FileMode: ptr(os.FileMode(st.Mode & 0o777)), UID: ptr(st.Uid), GID: ptr(st.Gid),
	}
}

var deviceRuleRE = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

// parseDeviceRule reads a rule of the device cgroup: "c 1:* rmw".
func parseDeviceRule(rule string) (specs.LinuxDeviceCgroup, error) {
	m := deviceRuleRE.FindStringSubmatch(rule)
	if m == nil {
		return specs.LinuxDeviceCgroup{}, invalid("device cgroup rule %q: want \"c 1:* rwm\"", rule)
	}
	out := specs.LinuxDeviceCgroup{Allow: true, Type: m[1], Access: m[4]}
	for i, dst := range []**int64{&out.Major, &out.Minor} {
		if text := m[2+i]; text != "*" {
			n, err := strconv.ParseInt(text, 10, 32)
			if err != nil {
				return out, invalid("device cgroup rule %q: %v", rule, err)
			}
			*dst = ptr(n)
		}
	}
	return out, nil
}
