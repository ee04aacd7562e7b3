package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// usage is what a machine's daemon has used since it started.
type usage struct {
	cpu     time.Duration
	bytes   uint64 // both ways, on the wire between machines
	packets uint64
	wakeups uint64 // of all its threads
}

func (u usage) minus(o usage) usage {
	return usage{u.cpu - o.cpu, u.bytes - o.bytes, u.packets - o.packets, u.wakeups - o.wakeups}
}

// used reads what h's daemon, and the network of its namespace, have used.
func (g *grid) used(h *netlab.Host) usage {
	g.Helper()
	u, err := usageOf(h.Pid())
	if err != nil {
		g.Fatal(err)
	}
	return u
}

func usageOf(pid int) (u usage, err error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return u, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	for _, i := range []int{11, 12} { // user and system time
		u.cpu += time.Duration(number(fields[i])) * 10 * time.Millisecond
	}
	net, err := os.ReadFile(dir + "net/dev")
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(net)) {
		name, counters, _ := strings.Cut(strings.TrimSpace(line), ":")
		if f := strings.Fields(counters); name == "eth0" {
			u.bytes, u.packets = number(f[0])+number(f[8]), number(f[1])+number(f[9])
		}
	}
	threads, err := os.ReadDir(dir + "task")
	for _, t := range threads {
		status, err := os.ReadFile(dir + "task/" + t.Name() + "/status")
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(status)) {
			if n, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
				u.wakeups += number(strings.TrimSpace(n))
			}
		}
	}
	return u, err
}

func number(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64) // 0 is as wrong as anything
	return n
}

// idle measures for a while what machines use on which nothing happens.
func (g *grid) idle(period time.Duration) {
	g.Helper()
	leader := g.leader()
	before := map[*netlab.Host]usage{}
	for _, h := range g.hosts {
		before[h] = g.used(h)
	}
	start := time.Now()
	time.Sleep(period)
	took := time.Since(start)
	sums, counts := map[string]usage{}, map[string]int{}
	for i, h := range g.hosts {
		role := "worker"
		switch {
		case h == leader:
			role = "leader"
		case i < managers:
			role = "other manager"
		}
		u, s := g.used(h).minus(before[h]), sums[role]
		sums[role] = usage{s.cpu + u.cpu, s.bytes + u.bytes, s.packets + u.packets, s.wakeups + u.wakeups}
		counts[role]++
	}
	for _, role := range []string{"leader", "other manager", "worker"} {
		s, per := sums[role], float64(counts[role])*took.Seconds()
		g.note("idle, "+role+": processor", fmt.Sprintf("%.1f ms/s (%.0f wake-ups/s)", s.cpu.Seconds()*1000/per, float64(s.wakeups)/per))
		g.note("idle, "+role+": network", fmt.Sprintf("%.1f kB/s (%.0f packets/s)", float64(s.bytes)/1000/per, float64(s.packets)/per))
	}
	for i, h := range g.hosts {
		limit, role := 60.0, "worker"
		if i < managers {
			limit, role = 80, "manager"
		}
		if h == leader {
			role = "leader"
		}
		kib, err := memory(h.Pid(), "Rss")
		pss, err2 := memory(h.Pid(), "Pss")
		if err != nil || err2 != nil {
			g.Fatal(err, err2)
		}
		g.atMost(fmt.Sprintf("daemon of %s (%s), of it %.0f MB private", h.Name, role, float64(pss)/1024), "MB RSS", float64(kib)/1024, limit)
	}
}
