package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// BenchmarkBudgets measures all budgets once and prints the table. It is one
// benchmark because the numbers are only worth something side by side.
func BenchmarkBudgets(b *testing.B) {
	b.StopTimer()
	for range b.N {
		var r report
		h := netlab.New(b).Host("--log-level", "error")
		h.Load("busybox:latest")
		archive := netlab.Images(b, "busybox:latest")[0]
		idle(b, h, &r, "idle daemon (manager), no containers", 80)
		oneContainer(b, h, &r, archive)
		execLatency(b, h, &r, archive)
		replicas(b, h, &r)
		nothingToChange(b, h, &r)
		logThroughput(b, h, &r)
		fmt.Println()
		r.print(os.Stdout)
		fmt.Println()
	}
}

// must fails the benchmark when a command did.
func must(b *testing.B, r netlab.Result) string {
	b.Helper()
	if err := r.Err(); err != nil {
		b.Fatal(err)
	}
	return r.Stdout
}

func idle(b *testing.B, h *netlab.Host, r *report, what string, limit float64) {
	time.Sleep(3 * time.Second) // idle is a state that takes a moment to reach
	for _, pid := range processes("daemon", h.RunDir) {
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if filepath.Base(exe) != "dhow" {
			continue
		}
		kib, err := memory(pid, "Rss")
		if err != nil {
			b.Fatal(err)
		}
		r.atMost(what, "MB RSS", float64(kib)/1024, limit)
	}
}

// docker says whether a real Docker daemon answers on the machine's default socket.
func docker() bool {
	if os.Getenv("DHOW_BENCH_DOCKER") != "" {
		return true
	}
	return exec.Command("docker", "-H", "unix:///var/run/docker.sock", "image", "inspect", "busybox:latest").Run() == nil
}

func dockerRun(b *testing.B, args ...string) time.Duration {
	return timed(func() {
		cmd := exec.Command("docker", append([]string{"-H", dockerHost()}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("docker %s: %v: %s", strings.Join(args, " "), err, out)
		}
	})
}

func dockerHost() string {
	if h := os.Getenv("DHOW_BENCH_DOCKER"); h != "" {
		return h
	}
	return "unix:///var/run/docker.sock"
}

// oneContainer: create, start and wait for /bin/true through the socket, with
// a network, against raw runc without one, and both docker clients' run.
func oneContainer(b *testing.B, h *netlab.Host, r *report, archive string) {
	bundle := newBundle(b, archive, "/bin/true")
	id := 0
	raw := median(21, func() time.Duration {
		id++
		return timed(func() {
			must(b, h.Exec("runc", "run", "--bundle", bundle, fmt.Sprintf("bench-%d-%d", os.Getpid(), id)))
		})
	})
	raw -= median(21, func() time.Duration { return timed(func() { must(b, h.Exec("/bin/true")) }) }) // what nsenter costs
	api := newAPI(h.RunDir + "/dhow.sock")
	own := median(21, func() time.Duration { return api.runTrue(b) })
	r.ratio("create + start + exit of one container", "at most 2x runc run", "runc run", own, raw, 2)

	client := median(11, func() time.Duration {
		return timed(func() { must(b, h.Docker("run", "--rm", "busybox:latest", "/bin/true")) })
	})
	var peer time.Duration
	if docker() {
		peer = median(11, func() time.Duration { return dockerRun(b, "run", "--rm", "busybox:latest", "/bin/true") })
	}
	r.ratio("docker run --rm, same client", "at most 1/6 of Docker", "Docker", client, peer, 1.0/6)
}

func execLatency(b *testing.B, h *netlab.Host, r *report, archive string) {
	bundle := newBundle(b, archive, "/bin/sleep", "1000")
	id := fmt.Sprintf("bench-exec-%d", os.Getpid())
	must(b, h.Exec("sh", "-c", "runc run --detach --bundle "+bundle+" "+id+" </dev/null >/dev/null 2>&1"))
	defer h.Exec("runc", "delete", "--force", id)
	raw := median(21, func() time.Duration { return timed(func() { must(b, h.Exec("runc", "exec", id, "/bin/true")) }) })
	raw -= median(21, func() time.Duration { return timed(func() { must(b, h.Exec("/bin/true")) }) })
	api := newAPI(h.RunDir + "/dhow.sock")
	name := api.sleeper(b)
	defer api.remove(b, name)
	own := median(21, func() time.Duration { return api.execTrue(b, name) })
	r.ratio("exec of /bin/true", "at most 1.5x runc exec", "runc exec", own, raw, 1.5)
}

const sixty = `
name: sixty
services:
  s: {image: "busybox:latest", command: [sleep, "100000"], stop_signal: SIGKILL, deploy: {replicas: 60}}
`

func replicas(b *testing.B, h *netlab.Host, r *report) {
	dir := b.TempDir()
	write(b, filepath.Join(dir, "compose.yaml"), sixty)
	in := netlab.Input{Dir: dir}
	took := median(3, func() time.Duration {
		d := timed(func() { must(b, h.TryWith(in, "up", "-d")) })
		if n := len(strings.Fields(must(b, h.TryWith(in, "ps", "-q")))); n != 60 {
			b.Fatalf("%d of 60 run", n)
		}
		must(b, h.TryWith(in, "down"))
		return d
	})
	r.atMost("60 replicas, command to all running", "s", took.Seconds(), 2)

	must(b, h.TryWith(in, "up", "-d"))
	time.Sleep(3 * time.Second) // idle is a state that takes a moment to reach
	total := 0
	shims := processes("dhow-shim ", "")
	for _, pid := range shims {
		kib, err := memory(pid, "Pss")
		if err != nil {
			b.Fatal(err)
		}
		total += kib
	}
	if len(shims) != 60 {
		b.Errorf("%d shims for 60 containers", len(shims))
	}
	r.atMost("memory per idle container", "MB PSS", float64(total)/1024/float64(max(len(shims), 1)), 5)
	idle(b, h, r, "daemon with 60 containers", 80)
	must(b, h.TryWith(in, "down"))
}

func nothingToChange(b *testing.B, h *netlab.Host, r *report) {
	var f strings.Builder
	f.WriteString("name: fifty\nservices:\n")
	for i := range 50 {
		fmt.Fprintf(&f, "  s%d: {image: 'busybox:latest', command: [sleep, '100000'], stop_signal: SIGKILL, environment: {N: '%d'}}\n", i, i)
	}
	dir := b.TempDir()
	write(b, filepath.Join(dir, "compose.yaml"), f.String())
	in := netlab.Input{Dir: dir}
	must(b, h.TryWith(in, "up", "-d"))
	took := median(11, func() time.Duration { return timed(func() { must(b, h.TryWith(in, "up", "-d")) }) })
	r.atMost("up with nothing to change, 50 services", "ms", float64(took)/1e6, 200)
	must(b, h.TryWith(in, "down"))
}

const logMegabytes = 500

// logThroughput: one container writes lines of 100 bytes as fast as it can.
func logThroughput(b *testing.B, h *netlab.Host, r *report) {
	script := fmt.Sprintf("yes %s | head -c %d000000", strings.Repeat("x", 99), logMegabytes)
	args := []string{"run", "--rm", "--log-opt", "max-size=50m", "--log-opt", "max-file=2", "busybox:latest", "sh", "-c", script}
	detached := func(run func(args ...string)) time.Duration {
		return timed(func() { run(args...) })
	}
	// Output goes to the log and to nobody: -d and wait.
	args = append([]string{"run", "-d"}, args[2:]...)
	own := detached(func(args ...string) {
		id := strings.TrimSpace(must(b, h.Docker(args...)))
		must(b, h.Docker("wait", id))
		must(b, h.Docker("rm", id))
	})
	var peer time.Duration
	if docker() {
		peer = detached(func(args ...string) {
			out, err := exec.Command("docker", append([]string{"-H", dockerHost()}, args...)...).Output()
			if err != nil {
				b.Fatal(err)
			}
			id := strings.TrimSpace(string(out))
			dockerRun(b, "wait", id)
			dockerRun(b, "rm", id)
		})
	}
	r.ratio(fmt.Sprintf("log of %d MB in lines of 100 bytes (%.0f MB/s)", logMegabytes, logMegabytes/own.Seconds()), "at most 1/2 of Docker", "Docker json-file", own, peer, 0.5)
}

func write(b *testing.B, path, content string) {
	b.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		b.Fatal(err)
	}
}
