package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// bench is one run: a host with dhow, and whom to measure beside.
type bench struct {
	*testing.B
	report
	host *netlab.Host
	dhow api
	raw  raw
	peer *docker // nil: no Docker
}

// BenchmarkBudgets measures all budgets once and prints the table. It is one
// benchmark because the numbers are only worth something side by side.
func BenchmarkBudgets(b *testing.B) {
	b.StopTimer()
	for range b.N {
		lab := netlab.New(b)
		t := &bench{B: b, host: lab.Host("--log-level", "error")}
		t.host.Load("busybox:latest")
		archive := netlab.Images(b, "busybox:latest")[0]
		t.dhow, t.raw = newAPI(b, t.host.RunDir+"/dhow.sock"), raw{b: b, archive: archive}
		t.idle("idle daemon (manager), no containers")
		t.peer = findDocker(b, lab, archive)
		t.oneContainer()
		t.sameClient()
		t.exec()
		t.logThroughput()
		t.replicas()
		t.nothingToChange()
		fmt.Println()
		t.print(os.Stdout)
		fmt.Println()
	}
}

// of returns a function that measures Docker, nil when there is none.
func (t *bench) of(f func(d *docker) time.Duration) func() time.Duration {
	if t.peer == nil {
		return nil
	}
	return func() time.Duration { return f(t.peer) }
}

// must fails the benchmark when a command did.
func (t *bench) must(r netlab.Result) string {
	t.Helper()
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return r.Stdout
}

func (t *bench) memory(pid int, field string) float64 {
	t.Helper()
	kib, err := memory(pid, field)
	if err != nil {
		t.Fatal(err)
	}
	return float64(kib) / 1024
}

func (t *bench) idle(what string) {
	time.Sleep(3 * time.Second) // idle is a state that takes a moment to reach
	t.atMost(what, "MB RSS", t.memory(t.host.Pid(), "Rss"), 80)
}

// oneContainer: one container with a network, against runc without one.
func (t *bench) oneContainer() {
	plain, alike := t.raw.bundle("/bin/true"), t.alike("/bin/true")
	s := inTurn(21,
		t.dhow.createStart,
		t.dhow.runTrue,
		func() time.Duration { return t.raw.runTrue(plain) },
		func() time.Duration { return t.raw.runTrue(alike) },
		t.of(func(d *docker) time.Duration { return d.createStart() }),
		t.of(func(d *docker) time.Duration { return d.runTrue() }))
	t.ratio("create + start of one container", s[0], "runc run", s[2], 2)
	t.ratio("create + start + exit of one container", s[1], "runc run", s[2], 2)
	t.ratio("  the same", s[1], "runc run, dhow's spec", s[3], 0)
	t.ratio("create + start of one container", s[0], "Docker", s[4], 1.0/6)
	t.ratio("create + start + exit of one container", s[1], "Docker", s[5], 1.0/6)
}

// alike is a bundle with the specification that dhow gives a container.
func (t *bench) alike(args ...string) string {
	id := t.dhow.sleeper() // its bind mounts are to stay
	return t.raw.bundleOf(filepath.Join(t.host.RunDir, "c", id[:16], "config.json"), args...)
}

// sameClient: what a person types, with the start of docker's client in it.
func (t *bench) sameClient() {
	args := []string{"run", "--rm", "busybox:latest", "/bin/true"}
	s := inTurn(11,
		func() time.Duration { return timed(func() { t.must(t.host.Docker(args...)) }) },
		t.of(func(d *docker) time.Duration { return timed(func() { d.run(args...) }) }))
	t.ratio("docker run --rm, same client", s[0], "Docker", s[1], 0)
}

func (t *bench) exec() {
	own, plain := t.dhow.sleeper(), t.raw.sleeper()
	var theirs string
	if t.peer != nil {
		theirs = t.peer.sleeper()
	}
	s := inTurn(31,
		func() time.Duration { return t.dhow.execTrue(own) },
		func() time.Duration { return timed(func() { t.raw.run("exec", plain, "/bin/true") }) },
		func() time.Duration {
			return timed(func() { t.raw.run("--root", t.host.RunDir+"/runc", "exec", own, "/bin/true") })
		},
		t.of(func(d *docker) time.Duration { return d.execTrue(theirs) }))
	t.ratio("exec of /bin/true", s[0], "runc exec", s[1], 1.5)
	t.ratio("  the same", s[0], "runc exec, same container", s[2], 0)
	t.ratio("  the same", s[0], "Docker", s[3], 0)
}

const sixty = `
name: sixty
services:
  s: {image: "busybox:latest", command: [sleep, "100000"], stop_signal: SIGKILL, deploy: {replicas: 60}}
`

func (t *bench) replicas() {
	in := project(t.B, sixty)
	up := func() (took time.Duration, ids []string) {
		took = timed(func() {
			t.must(t.host.TryWith(in, "up", "-d"))
			if ids = strings.Fields(t.must(t.host.TryWith(in, "ps", "-q"))); len(ids) != 60 {
				t.Fatalf("%d of 60 run", len(ids))
			}
		})
		return took, ids
	}
	took := inTurn(3, func() time.Duration {
		d, _ := up()
		t.must(t.host.TryWith(in, "down"))
		return d
	})[0]
	t.atMost(fmt.Sprintf("60 replicas, command to all running (%d runs)", len(took)), "s", took.median().Seconds(), 2)
	t.ratio("  the same", took, "Swarm", t.peer.swarm(), 1.0/6)

	_, ids := up()
	time.Sleep(3 * time.Second) // idle is a state that takes a moment to reach
	known := map[string]bool{}
	for _, id := range ids {
		known[id] = true
	}
	pids, total := shims(known), 0.0
	for _, pid := range pids {
		total += t.memory(pid, "Pss")
	}
	if len(pids) != 60 {
		t.Fatalf("%d shims for 60 containers", len(pids))
	}
	t.atMost("memory per idle container", "MB PSS", total/60, 5)
	t.idle("daemon with 60 containers")
	t.must(t.host.TryWith(in, "down"))
}

func (t *bench) nothingToChange() {
	in := project(t.B, services("fifty", 50))
	t.must(t.host.TryWith(in, "up", "-d"))
	took := inTurn(11, func() time.Duration { return timed(func() { t.must(t.host.TryWith(in, "up", "-d")) }) })[0]
	t.atMost("up with nothing to change, 50 services", "ms", float64(took.median())/1e6, 200)
	t.must(t.host.TryWith(in, "down"))
}

// logThroughput: one container writes lines of 100 bytes as fast as it can, to
// the log and to nobody else.
func (t *bench) logThroughput() {
	const megabytes = 200
	script := fmt.Sprintf("yes %s | head -c %d000000", strings.Repeat("x", 99), megabytes)
	measure := func(client func(args ...string) string) time.Duration {
		return timed(func() {
			id := strings.TrimSpace(client("run", "--detach", "--log-opt", "max-size=50m", "--log-opt", "max-file=2", "busybox:latest", "sh", "-c", script))
			if code := strings.TrimSpace(client("wait", id)); code != "0" {
				t.Fatalf("the writer ended with %s", code)
			}
			client("rm", id)
		})
	}
	s := inTurn(3,
		func() time.Duration {
			return measure(func(args ...string) string { return t.must(t.host.Docker(args...)) })
		},
		t.of(func(d *docker) time.Duration { return measure(d.run) }))
	t.ratio(fmt.Sprintf("log of %d MB in lines of 100 bytes (%.0f MB/s)", megabytes, megabytes/s[0].median().Seconds()), s[0], "Docker", s[1], 0.5)
}
