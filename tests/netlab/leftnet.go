package netlab

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// network is what containers left of links, routes and rules. A bridge, and
// with it the table of its rules, may stay as long as the daemon has the
// network; nothing else outlives its last container.
func (h *Host) network() []string {
	left := append(h.links(), h.routing()...)
	return append(left, h.filters()...)
}

// settle waits until the daemon has removed what no container uses any more,
// tells what took longer than on a quiet machine, and returns what stayed.
func (h *Host) settle() []string {
	start, told := time.Now(), false
	left := h.network()
	for ; len(left) > 0 && time.Since(start) < busy; left = h.network() {
		if !told && time.Since(start) > 10*time.Second {
			told = true
			h.t.Logf("  slow: %s still has after 10 s: %s", h.NetNS, strings.Join(left, "; "))
		}
		time.Sleep(50 * time.Millisecond)
	}
	return left
}

// links are the containers' ends, tunnels, the mesh, and bridges of no network.
func (h *Host) links() []string {
	var left []string
	for _, kind := range []string{"veth", "vxlan"} {
		for _, line := range h.lines("ip", "-o", "link", "show", "type", kind) {
			if !strings.Contains(line, " eth0@") && !strings.Contains(line, " eth1@") {
				left = append(left, kind+" "+line)
			}
		}
	}
	gateways, err := h.gateways()
	if err != nil {
		return append(left, err.Error())
	}
	for _, b := range h.bridges() {
		known := gateways == nil
		for _, a := range b.AddrInfo {
			known = known || gateways[a.Local]
		}
		if !known {
			left = append(left, fmt.Sprintf("bridge %+v", b))
		}
	}
	return left
}

// gateways of the networks that the daemon has; nil when none runs.
func (h *Host) gateways() (map[string]bool, error) {
	h.mu.Lock()
	dead := h.daemon == nil
	h.mu.Unlock()
	if dead {
		return nil, nil
	}
	var networks []struct {
		IPAM struct{ Config []struct{ Gateway string } }
	}
	if err := h.api("GET", "/networks", &networks); err != nil {
		return nil, fmt.Errorf("which networks there are: %w", err)
	}
	out := map[string]bool{}
	for _, n := range networks {
		for _, c := range n.IPAM.Config {
			out[c.Gateway] = true
		}
	}
	return out, nil
}

type bridge struct {
	IfName   string
	AddrInfo []struct{ Local string } `json:"addr_info"`
}

func (h *Host) bridges() (out []bridge) {
	r := h.Exec("ip", "-j", "addr", "show", "type", "bridge")
	if err := json.Unmarshal([]byte(r.Stdout), &out); err != nil {
		return []bridge{{IfName: fmt.Sprintf("%v: %v", err, r.Err())}}
	}
	return out
}

// routing is what leads to other nodes' tasks and back: rules and routes of our protocol number, in any table.
func (h *Host) routing() []string {
	var left []string
	for _, family := range []string{"-4", "-6"} {
		for _, line := range h.lines("ip", family, "rule", "show") {
			if strings.Contains(line, "proto 68") {
				left = append(left, "rule "+line)
			}
		}
		for _, line := range h.lines("ip", family, "route", "show", "table", "all", "proto", "68") {
			left = append(left, "route "+line)
		}
	}
	return left
}

// filters are our tables, and rules of ours in others' chains, which have our table's name as comment.
func (h *Host) filters() []string {
	if _, err := exec.LookPath("nft"); err != nil {
		return nil
	}
	rules := h.lines("nft", "list", "ruleset")
	needed := len(h.bridges()) > 0 // asked afterwards: a bridge that the daemon makes meanwhile comes before its rules
	var left []string
	table := ""
	for _, line := range rules {
		if name, ok := strings.CutPrefix(line, "table "); ok {
			table = strings.TrimSuffix(name, " {")
		}
		switch {
		case strings.HasPrefix(line, "table inet dhow_") && (!needed || strings.HasSuffix(table, "_zones")):
			left = append(left, "packet filter: table "+table)
		case strings.Contains(line, `comment "dhow_`) && !needed:
			left = append(left, "packet filter: rule in "+table+": "+strings.TrimSpace(line))
		}
	}
	return left
}

// lines of what a program on the host prints; one that cannot be asked is told as such.
func (h *Host) lines(program string, args ...string) []string {
	r := h.Exec(program, args...)
	if r.Code != 0 {
		return []string{r.Err().Error()}
	}
	return strings.FieldsFunc(r.Stdout, func(c rune) bool { return c == '\n' })
}
