package link

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/runtime"
)

// SetSegment makes the bridge exist with its addresses and its tunnel to other
// nodes, and the node forward.
// What is there is looked at, not written again.
func (l *Links) SetSegment(_ context.Context, s overlaynet.Segment) error {
	l.note(s.Bridge, true)
	st := l.host.link(s.Bridge)
	if st.index != 0 && !l.owns(s.Bridge, st) {
		l.note(s.Bridge, false)
		return fmt.Errorf("interface %s exists and is not ours: choose another name for the bridge, or remove it: %w", s.Bridge, runtime.ErrConflict)
	}
	if st.index == 0 {
		err := l.host.do(step{"create bridge " + s.Bridge, newBridge(s), []unix.Errno{unix.EEXIST}},
			step{"mark bridge " + s.Bridge, setAlias(s.Bridge, l.alias()), nil})
		if err != nil {
			return err
		}
		if st = l.host.link(s.Bridge); st.index == 0 {
			return fmt.Errorf("bridge %s vanished", s.Bridge)
		}
	}
	if err := l.bridgeSysctls(s.Bridge, s.Has6()); err != nil {
		return err
	}
	steps, err := l.host.missingOf(s, st)
	if err != nil {
		return err
	}
	if err := l.host.do(steps...); err != nil {
		return err
	}
	return l.setTunnel(s, st.index)
}

// strictSources tells whether packets of a link, or of all, must come the way
// that an answer would go.
func strictSources(device string) bool {
	b, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + device + "/rp_filter")
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

// alias marks links whose name was chosen by the user.
func (l *Links) alias() string { return "dhow " + l.mark }

func (l *Links) owns(name string, st state) bool {
	return strings.HasPrefix(name, l.mark) || st.alias == l.alias()
}

// bridgeSysctls: route_localnet lets replies to translated connections from
// 127.0.0.1 come back; the packet filter drops what abuses it. Answers on their
// way back over the mesh carry a mark, and a host that looks for the way to
// their source by it (src_valid_mark) finds the mesh, not the bridge: a strict
// rp_filter would drop them.
func (l *Links) bridgeSysctls(bridge string, v6 bool) error {
	keys := [][2]string{
		{"net/ipv4/ip_forward", "1"},
		{"net/ipv4/conf/" + bridge + "/route_localnet", "1"},
		{"net/ipv6/conf/" + bridge + "/accept_ra", "0"},
		{"net/ipv6/conf/" + bridge + "/accept_dad", "0"},
	}
	if strictSources("all") || strictSources(bridge) {
		keys = append(keys, [2]string{"net/ipv4/conf/" + bridge + "/rp_filter", "2"}) // the larger of both counts
	}
	if v6 {
		if err := keepUplinksLearning(); err != nil {
			return err
		}
		keys = append(keys, [2]string{"net/ipv6/conf/" + bridge + "/disable_ipv6", "0"}, [2]string{"net/ipv6/conf/all/forwarding", "1"})
	} else {
		keys = append(keys, [2]string{"net/ipv6/conf/" + bridge + "/disable_ipv6", "1"})
	}
	for _, kv := range keys {
		if err := l.ensureSysctl(kv[0], kv[1]); err != nil {
			return fmt.Errorf("sysctl %s: %w", kv[0], err)
		}
	}
	return nil
}

// ensureSysctl writes only what differs: some writes wake up every interface.
func (l *Links) ensureSysctl(key, value string) error {
	if b, err := os.ReadFile("/proc/sys/" + key); err == nil && strings.TrimSpace(string(b)) == value {
		return nil
	}
	l.host.writes.Add(1)
	return writeSysctl(key, value)
}

// keepUplinksLearning lets interfaces that take their IPv6 route from router
// advertisements go on doing so when the node forwards (accept_ra 1 -> 2).
func keepUplinksLearning() error {
	if b, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/forwarding"); err != nil || strings.TrimSpace(string(b)) != "0" {
		return nil //nolint:nilerr // no IPv6, or it forwards already
	}
	files, err := filepath.Glob("/proc/sys/net/ipv6/conf/*/accept_ra")
	if err != nil {
		return err
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.TrimSpace(string(b)) == "1" {
			if err := os.WriteFile(f, []byte("2"), 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// RemoveSegment removes the bridge and its tunnel.
func (l *Links) RemoveSegment(_ context.Context, s overlaynet.Segment) error {
	l.note(s.Bridge, false)
	names := l.endRemotes(s)
	if st := l.host.link(s.Bridge); st.index != 0 && l.owns(s.Bridge, st) {
		names = append(names, s.Bridge)
	}
	return l.remove(names...)
}
