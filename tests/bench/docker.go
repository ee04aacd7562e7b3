package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// docker is a real Docker daemon to measure beside.
type docker struct {
	api
	b    *testing.B
	host string // "unix:///run/docker.sock"

	machine *netlab.Host // whose network namespace it runs in; nil when the daemon is not ours
	dir     string       // of its data, when it is ours
	cmd     *exec.Cmd    // nil: it does not run
	ended   chan error
}

// findDocker takes the daemon that DHOW_BENCH_DOCKER names, or the machine's,
// or starts the dockerd that is installed for as long as the benchmark runs,
// in a network and mount namespace and in directories of its own. nil: there
// is none.
func findDocker(b *testing.B, lab *netlab.Lab, archive string) *docker {
	b.Helper()
	d := &docker{b: b, host: os.Getenv("DHOW_BENCH_DOCKER")}
	if d.host == "" && exec.Command("docker", "-H", "unix:///run/docker.sock", "version").Run() == nil {
		d.host = "unix:///run/docker.sock"
	}
	if d.host == "" {
		if !installed() {
			return nil
		}
		d.start(lab.Client())
	}
	d.api = newAPI(b, strings.TrimPrefix(d.host, "unix://"))
	if exec.Command("docker", "-H", d.host, "image", "inspect", "busybox:latest").Run() != nil {
		d.run("load", "--input", archive)
	}
	return d
}

// installed reports whether there is a dockerd to start.
func installed() bool {
	if _, err := exec.LookPath("dockerd"); err != nil {
		fmt.Println("no dockerd is installed: measured without (apt-get install docker.io)")
		return false
	}
	return true
}

// start runs a dockerd in the namespace of h until the benchmark ends.
func (d *docker) start(h *netlab.Host) {
	d.b.Helper()
	dir, err := os.MkdirTemp("", "dhb") // short: sockets are in it
	if err != nil {
		d.b.Fatal(err)
	}
	d.machine, d.dir, d.host = h, dir, "unix://"+dir+"/docker.sock"
	d.b.Cleanup(func() {
		if d.cmd == nil {
			d.boot() // it ends what it finds
		}
		d.stop()
		if err := os.RemoveAll(dir); err != nil {
			d.b.Errorf("remove %s: %v", dir, err)
		}
		groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + d.group())
		for _, g := range append(groups, "/sys/fs/cgroup/"+d.group()) {
			_ = os.Remove(g) // v1, or v2
		}
	})
	d.boot()
}

// group is the cgroup of its containers.
func (d *docker) group() string { return "dhow-bench-" + filepath.Base(d.dir) }

// boot starts the process and waits until it answers.
func (d *docker) boot() {
	d.b.Helper()
	logs, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.b.Fatal(err)
	}
	defer logs.Close()
	// It keeps the namespaces of its networks in /run/docker, by names that two
	// daemons of one Swarm have in common: each has a /run/docker of its own.
	cmd := exec.Command("nsenter", "--net=/run/netns/"+d.machine.NetNS, "unshare", "--mount",
		"sh", "-c", `mkdir -p /run/docker && mount -t tmpfs none /run/docker && exec dockerd "$@"`, "dockerd",
		"--host", d.host, "--data-root", d.dir+"/data", "--exec-root", d.dir+"/exec", "--pidfile", d.dir+"/pid", "--cgroup-parent", "/"+d.group())
	cmd.Stdout, cmd.Stderr = logs, logs
	if err := cmd.Start(); err != nil {
		d.b.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	d.cmd, d.ended = cmd, ended
	netlab.Eventually(d.b, time.Minute, "dockerd answers", func() error {
		out, err := exec.Command("docker", "-H", d.host, "version").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// kill ends dockerd as a crash would.
func (d *docker) kill() {
	_ = d.cmd.Process.Kill()
	<-d.ended
	d.cmd = nil
	_ = os.Remove(filepath.Join(d.dir, "pid")) // the number may be another's by now
}

// stop ends dockerd, which ends its containers and its containerd.
func (d *docker) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(time.Minute):
		d.b.Error("dockerd did not end within a minute")
		_ = d.cmd.Process.Kill()
		<-d.ended
	}
	d.cmd = nil
}

// run is docker's client.
func (d *docker) run(args ...string) string {
	d.b.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("docker", append([]string{"--host", d.host}, args...)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		d.b.Fatalf("docker %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(stdout.String())
}

// swarm is a service of sixty replicas, from the command to all running; only
// with a daemon of our own, which becomes a swarm of one node.
func (d *docker) swarm() samples {
	if d == nil || d.machine == nil {
		return nil
	}
	d.run("swarm", "init", "--advertise-addr", d.machine.Addr)
	took := timed(func() {
		d.run("service", "create", "--detach", "--quiet", "--name", "sixty", "--replicas", "60", "--stop-signal", "KILL", "busybox:latest", "sleep", "100000")
		netlab.Eventually(d.b, 2*time.Minute, "60 tasks run", func() error {
			if got := d.run("service", "ls", "--format", "{{.Replicas}}"); got != "60/60" {
				return fmt.Errorf("%s run", got)
			}
			return nil
		})
	})
	d.run("service", "rm", "sixty")
	d.run("swarm", "leave", "--force")
	return samples{took}
}
