package engine_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

func TestSpecReachesTheProcess(t *testing.T) {
	n := newNode(t)
	mode, executable := uint32(0o440), uint32(0o555)
	for _, tc := range []struct {
		name string
		spec stack.ContainerSpec
		want string
	}{
		{"user by name", stack.ContainerSpec{User: "app", Command: []string{"id"}}, "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)\n"},
		{"groups", stack.ContainerSpec{User: "1234:5", GroupAdd: []string{"extra", "77"}, Command: []string{"id"}}, "uid=1234 gid=5 groups=5,77,2000(extra)\n"},
		{"env", stack.ContainerSpec{Env: []string{"A=1"}, Hostname: "box", Command: []string{"sh", "-c", "echo $A $HOSTNAME $HOME $PATH"}}, "1 box /root /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"},
		{"hostname", stack.ContainerSpec{Hostname: "box", Domainname: "example.org", Command: []string{"sh", "-c", "hostname; cat /proc/sys/kernel/domainname"}}, "box\nexample.org\n"},
		{"working dir", stack.ContainerSpec{WorkingDir: "/made/up", Command: []string{"pwd"}}, "/made/up\n"},
		{"read-only", stack.ContainerSpec{ReadOnly: true, Command: []string{"sh", "-c", "touch /x 2>/dev/null || echo no; touch /dev/shm/x && echo yes"}}, "no\nyes\n"},
		{"no new privileges", stack.ContainerSpec{SecurityOpt: []string{"no-new-privileges"}, Command: []string{"grep", "NoNewPrivs", "/proc/self/status"}}, "NoNewPrivs:\t1\n"},
		{"seccomp", stack.ContainerSpec{Command: []string{"grep", "Seccomp:", "/proc/self/status"}}, "Seccomp:\t2\n"},
		{"seccomp off", stack.ContainerSpec{SecurityOpt: []string{"seccomp=unconfined"}, Command: []string{"grep", "Seccomp:", "/proc/self/status"}}, "Seccomp:\t0\n"},
		{"seccomp profile", stack.ContainerSpec{SecurityOpt: []string{`seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}`}, Command: []string{"sh", "-c", "mkdir /x 2>/dev/null || echo no"}}, "no\n"},
		{"caps dropped", stack.ContainerSpec{CapDrop: []string{"ALL"}, CapAdd: []string{"NET_ADMIN"}, Command: []string{"grep", "CapEff", "/proc/self/status"}}, "CapEff:\t0000000000001000\n"},
		{"default caps", stack.ContainerSpec{Command: []string{"grep", "CapEff", "/proc/self/status"}}, "CapEff:\t00000000a80425fb\n"},
		{"sysctl", stack.ContainerSpec{Sysctls: map[string]string{"net.core.somaxconn": "77"}, Command: []string{"cat", "/proc/sys/net/core/somaxconn"}}, "77\n"},
		{"ulimit", stack.ContainerSpec{Ulimits: []stack.Ulimit{{Name: "nofile", Soft: 100, Hard: 200}}, Command: []string{"sh", "-c", "ulimit -n; ulimit -Hn"}}, "100\n200\n"},
		{"shm", stack.ContainerSpec{ShmSize: 1 << 20, Command: []string{"sh", "-c", "df -k /dev/shm | tail -1 | awk '{print $2}'"}}, "1024\n"},
		{"secret", stack.ContainerSpec{User: "app", Secrets: []stack.FileRef{{Source: "key", Target: "/run/secrets/key", UID: 1000, GID: 2000, Mode: &mode, Data: []byte("hush")}},
			Command: []string{"sh", "-c", "cat /run/secrets/key; stat -c ' %u %g %a' /run/secrets/key; touch /run/secrets/key 2>/dev/null || echo no"}}, "hush 1000 2000 440\nno\n"},
		{"config that is a program", stack.ContainerSpec{Configs: []stack.FileRef{{Source: "tool", Target: "/bin/tool", Mode: &executable, Data: []byte("#!/bin/sh\necho ran\n")}, {Source: "plain", Target: "/plain", Data: []byte("x")}},
			Command: []string{"sh", "-c", "tool; grep -o ' /plain .*noexec' /proc/self/mounts | cut -c1-7"}}, "ran\n /plain\n"},
		{"tmpfs", stack.ContainerSpec{Mounts: []stack.Mount{{Type: stack.MountTmpfs, Target: "/scratch", TmpfsSize: 1 << 20}}, Command: []string{"sh", "-c", "mount | grep -c ' /scratch type tmpfs'"}}, "1\n"},
		{"hosts", stack.ContainerSpec{Hostname: "box", ExtraHosts: []string{"db:10.1.2.3", "six:::1", "out:host-gateway"}, Command: []string{"sh", "-c", "grep -E 'db$|six$|out$|box$' /etc/hosts"}}, "10.1.2.3\tdb\n::1\tsix\n10.9.6.1\tout\n10.9.6.2\tbox\n"},
		{"resolv.conf", stack.ContainerSpec{DNSSearch: []string{"corp"}, DNSOptions: []string{"ndots:2"}, Command: []string{"cat", "/etc/resolv.conf"}}, "nameserver 10.9.6.1\nsearch corp\noptions ndots:2\n"},
		{"resolv.conf with other options", stack.ContainerSpec{DNSSearch: []string{"corp"}, DNSOptions: []string{"timeout:1"}, Command: []string{"cat", "/etc/resolv.conf"}}, "nameserver 10.9.6.1\nsearch corp\noptions timeout:1 ndots:0\n"},
		{"resolv.conf in host mode", stack.ContainerSpec{NetworkMode: "host", DNS: []string{"192.0.2.53"}, DNSSearch: []string{"corp"}, DNSOptions: []string{"timeout:1"}, Command: []string{"cat", "/etc/resolv.conf"}}, "nameserver 192.0.2.53\nsearch corp\noptions timeout:1\n"},
		{"device", stack.ContainerSpec{Devices: []stack.Device{{Source: "/dev/fuse", Target: "/dev/myfuse", Permissions: "r"}}, Command: []string{"sh", "-c", "(: < /dev/myfuse) && echo yes; (: > /dev/myfuse) 2>/dev/null || echo no"}}, "yes\nno\n"},
		{"memory limit", stack.ContainerSpec{Resources: stack.Resources{Memory: 64 << 20, PidsLimit: 50}, Command: []string{"sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max"}}, "67108864\n50\n"},
		{"privileged", stack.ContainerSpec{Privileged: true, Command: []string{"sh", "-c", "grep Seccomp: /proc/self/status; test -b /dev/" + blockDevice(t) + " && echo disk; mount -t tmpfs x /tmp && echo mounted"}}, "Seccomp:\t0\ndisk\nmounted\n"},
		{"bind", stack.ContainerSpec{Mounts: []stack.Mount{{Type: stack.MountBind, Source: n.dir, Target: "/host", ReadOnly: true}}, Command: []string{"sh", "-c", "ls -d /host/data; touch /host/x 2>/dev/null || echo no"}}, "/host/data\nno\n"},
		{"tty", stack.ContainerSpec{TTY: true, ConsoleSize: [2]uint16{31, 97}, Command: []string{"sh", "-c", "stty size; echo $TERM"}}, "31 97\r\nxterm\r\n"},
		{"host network", stack.ContainerSpec{NetworkMode: "host", Command: []string{"readlink", "/proc/self/ns/net"}}, hostNS(t, "net") + "\n"},
		{"host pid", stack.ContainerSpec{PIDMode: "host", Command: []string{"readlink", "/proc/self/ns/pid"}}, hostNS(t, "pid") + "\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n.TB = t
			got, code := n.run(tc.spec)
			if got != tc.want {
				t.Errorf("got %q (exit %d), want %q", got, code, tc.want)
			}
		})
	}
	n.TB = t
}

func TestInit(t *testing.T) {
	n := newNode(t)
	if _, err := os.Stat("/usr/bin/tini-static"); err != nil {
		t.Skip("SKIP: no tini-static (apt-get install tini)")
	}
	spec := stack.ContainerSpec{Init: true, Command: []string{"sh", "-c", "cat /proc/1/comm; echo $$"}}
	if out, _ := n.run(spec); !strings.HasPrefix(out, "docker-init\n") || out == "docker-init\n1\n" {
		t.Errorf("%q", out)
	}
}

// blockDevice is a disk of this machine.
func blockDevice(t *testing.T) string {
	entries, err := os.ReadDir("/sys/block")
	if err != nil || len(entries) == 0 {
		t.Skip("SKIP: no block device")
	}
	for _, e := range entries {
		if _, err := os.Stat("/dev/" + e.Name()); err == nil {
			return e.Name()
		}
	}
	return ""
}

func hostNS(t *testing.T, kind string) string {
	s, err := os.Readlink("/proc/self/ns/" + kind)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSecretsAreNotOnDisk(t *testing.T) {
	n := newNode(t)
	spec := sh("sleep 1000")
	spec.Secrets = []stack.FileRef{{Source: "key", Target: "/run/secrets/key", Data: []byte("very-secret-word")}}
	id := n.start("secret", spec)
	err := filepath.Walk(filepath.Join(n.dir, "data"), func(p string, fi os.FileInfo, err error) error {
		if err != nil || !fi.Mode().IsRegular() {
			return err
		}
		data, err := os.ReadFile(p)
		if bytes.Contains(data, []byte("very-secret-word")) || bytes.Contains(data, []byte("dmVyeS1zZWNyZXQtd29yZ")) {
			t.Errorf("%s holds the secret", p)
		}
		return err
	})
	n.ok(err)
	n.ok(n.Stop(n.ctx(), id, "KILL", nil))
	n.reopen()
	n.ok(n.Start(n.ctx(), id))
	if out, _ := n.exec(id, "cat", "/run/secrets/key"); out != "very-secret-word" {
		t.Errorf("after a restart of the daemon: %q", out)
	}
}

func TestBadSpecsAreRefused(t *testing.T) {
	n := newNode(t)
	n.create("holder", stack.ContainerSpec{})
	for name, spec := range map[string]stack.ContainerSpec{
		"capability":   {CapAdd: []string{"NOPE"}},
		"signal":       {StopSignal: "SIGNOPE"},
		"log driver":   {Log: stack.LogConfig{Driver: "syslog"}},
		"log option":   {Log: stack.LogConfig{Options: map[string]string{"max-file": "0"}}},
		"compress":     {Log: stack.LogConfig{Options: map[string]string{"max-size": "1m", "compress": "true"}}},
		"restart":      {Restart: stack.RestartPolicy{Condition: "sometimes"}},
		"auto remove":  {AutoRemove: true, Restart: stack.RestartPolicy{Condition: "always"}},
		"memory":       {Resources: stack.Resources{Memory: 1 << 20}},
		"sysctl":       {Sysctls: map[string]string{"kernel.panic": "1"}},
		"sysctl host":  {NetworkMode: "host", Sysctls: map[string]string{"net.core.somaxconn": "1"}},
		"mount":        {Mounts: []stack.Mount{{Type: stack.MountTmpfs, Target: "relative"}}},
		"mount twice":  {Mounts: []stack.Mount{{Type: stack.MountTmpfs, Target: "/a"}, {Type: stack.MountTmpfs, Target: "/a/"}}},
		"runtime":      {Runtime: "no-such-runtime"},
		"security":     {SecurityOpt: []string{"what=ever"}},
		"device":       {Devices: []stack.Device{{Source: "/dev/no-such-device"}}},
		"ulimit":       {Ulimits: []stack.Ulimit{{Name: "nope", Soft: 1, Hard: 1}}},
		"ulimit order": {Ulimits: []stack.Ulimit{{Name: "nofile", Soft: 2, Hard: 1}}},
		"userns":       {UsernsMode: "auto"},
		"ipc":          {IPCMode: "weird"},
		"storage":      {StorageOpt: map[string]string{"size": "1G"}},
		"storage key":  {StorageOpt: map[string]string{"dm.basesize": "1G"}},
		"health":       {Healthcheck: &stack.Healthcheck{Test: []string{"RUN", "x"}}},
	} {
		spec.Image = busybox
		if _, _, err := n.Create(n.ctx(), "", spec); !errors.Is(err, runtime.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, want := range map[string]error{"holder": runtime.ErrConflict, "-bad": runtime.ErrInvalid} {
		if _, _, err := n.Create(n.ctx(), name, stack.ContainerSpec{Image: busybox}); !errors.Is(err, want) {
			t.Errorf("name %s: %v", name, err)
		}
	}
	if _, _, err := n.Create(n.ctx(), "", stack.ContainerSpec{Image: "no-such-image"}); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("missing image: %v", err)
	}
	all, err := n.List(n.ctx(), runtime.Filter{All: true})
	n.ok(err)
	if len(all) != 1 {
		t.Errorf("%d containers after refusals", len(all))
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	n := newNode(t)
	for _, tc := range []struct {
		args []string
		code int
	}{{[]string{"/no/such/file"}, 127}, {[]string{"/etc/passwd"}, 126}} {
		id := n.create("", stack.ContainerSpec{Command: tc.args})
		err := n.Start(n.ctx(), id)
		if err == nil {
			t.Fatalf("%v started", tc.args)
		}
		c := n.inspect(id)
		if c.State.ExitCode != tc.code || c.State.Error == "" || c.State.Pid != 0 {
			t.Errorf("%v: state %+v", tc.args, c.State)
		}
		n.leftovers()
	}
	n.net.fail = errors.New("no address left")
	id := n.create("", sh("true"))
	if err := n.Start(n.ctx(), id); err == nil || !strings.Contains(err.Error(), "no address left") {
		t.Errorf("start without network: %v", err)
	}
	n.net.fail = nil
	n.leftovers()
	n.ok(n.Start(n.ctx(), id))
	n.exit(id)
}

func TestAttachBeforeStart(t *testing.T) {
	n := newNode(t)
	spec := stack.ContainerSpec{OpenStdin: true, StdinOnce: true, Command: []string{"sh", "-c", "echo first; cat; echo err >&2"}}
	id := n.create("attach", spec)
	s, err := n.Attach(n.ctx(), id, runtime.AttachOptions{Stdin: true, Stdout: true, Stderr: true})
	n.ok(err)
	defer s.Close()
	n.ok(n.Start(n.ctx(), id))
	_, err = io.WriteString(s.Stdin, "through\n")
	n.ok(err)
	n.ok(s.Stdin.Close())
	errs := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(s.Stderr)
		errs <- b
	}()
	out, err := io.ReadAll(s.Stdout)
	n.ok(err)
	if string(out) != "first\nthrough\n" || string(<-errs) != "err\n" {
		t.Errorf("output %q", out)
	}
	n.exit(id)
}

func TestAttachToAContainerThatNeverStarts(t *testing.T) {
	n := newNode(t)
	id := n.create("never", stack.ContainerSpec{Command: []string{"/no/such"}})
	s, err := n.Attach(n.ctx(), id, runtime.AttachOptions{Stdout: true})
	n.ok(err)
	if err := n.Start(n.ctx(), id); err == nil {
		t.Fatal("started")
	}
	if out, err := io.ReadAll(s.Stdout); err != nil || len(out) > 0 {
		t.Errorf("%q %v", out, err)
	}
}

func TestExec(t *testing.T) {
	n := newNode(t)
	spec := sh("sleep 1000")
	spec.Env, spec.User = []string{"A=1"}, "app"
	id := n.start("exec", spec)
	if out, code := n.exec(id, "sh", "-c", "id -u; echo $A; exit 9"); out != "1000\n1\n" || code != 9 {
		t.Errorf("%q %d", out, code)
	}
	x, err := n.ExecCreate(n.ctx(), id, runtime.ExecSpec{Args: []string{"sh", "-c", "id -un; pwd; echo $B; cat"}, User: "nobody", WorkingDir: "/tmp", Env: []string{"B=2"}, Stdin: true, Stdout: true})
	n.ok(err)
	s, err := n.ExecStart(n.ctx(), x, false)
	n.ok(err)
	_, _ = io.WriteString(s.Stdin, "in\n")
	n.ok(s.Stdin.Close())
	if out, _ := io.ReadAll(s.Stdout); string(out) != "nobody\n/tmp\n2\nin\n" {
		t.Errorf("%q", out)
	}
	missing, err := n.ExecCreate(n.ctx(), id, runtime.ExecSpec{Args: []string{"/no/such"}, Stdout: true})
	n.ok(err)
	if _, err := n.ExecStart(n.ctx(), missing, false); err == nil {
		t.Error("a missing command was executed")
	}
	if info, _ := n.ExecInspect(n.ctx(), missing); info.ExitCode == nil || *info.ExitCode != 127 {
		t.Errorf("%+v", info)
	}
}

func TestHealth(t *testing.T) {
	n := newNode(t)
	events := n.bus.Subscribe(n.ctx(), time.Time{}, time.Time{})
	spec := sh("touch /tmp/ok; sleep 1000")
	spec.Healthcheck = &stack.Healthcheck{Test: []string{"CMD-SHELL", "echo probed; test -e /tmp/ok"}, Interval: 300 * time.Millisecond, Retries: 2, Timeout: 10 * time.Second}
	id := n.start("health", spec)
	if n.net.isReady(id) {
		t.Error("ready before it is healthy")
	}
	is := func(action string) func(runtime.Event) bool {
		return func(e runtime.Event) bool { return e.Action == action }
	}
	n.until(events, is("health_status: healthy"))
	if !n.net.isReady(id) {
		t.Error("healthy but not ready")
	}
	if h := n.inspect(id).State.Health; h.Status != "healthy" || h.Log[len(h.Log)-1].Output != "probed\n" {
		t.Errorf("%+v", h)
	}
	n.exec(id, "rm", "/tmp/ok")
	n.until(events, is("health_status: unhealthy"))
	if n.net.isReady(id) {
		t.Error("unhealthy but ready")
	}
	n.reopen()
	if h := n.inspect(id).State.Health; h == nil || h.Status != "unhealthy" || len(h.Log) == 0 {
		t.Errorf("after a restart of the daemon: %+v", h)
	}
	events = n.bus.Subscribe(n.ctx(), time.Time{}, time.Time{})
	n.exec(id, "touch", "/tmp/ok")
	n.until(events, is("health_status: healthy"))
}

func TestUnhealthyIsRestarted(t *testing.T) {
	n := newNode(t)
	events := n.bus.Subscribe(n.ctx(), time.Time{}, time.Time{})
	spec := sh("sleep 1000")
	spec.StopSignal = "KILL"
	spec.Restart = stack.RestartPolicy{Condition: "on-failure", Unhealthy: true, Delay: time.Millisecond}
	spec.Healthcheck = &stack.Healthcheck{Test: []string{"CMD", "false"}, Interval: 50 * time.Millisecond, Retries: 1}
	id := n.start("sick", spec)
	n.until(events, func(e runtime.Event) bool { return e.Action == "die" })
	n.until(events, func(e runtime.Event) bool { return e.Action == "start" })
	if c := n.inspect(id); c.RestartCount == 0 {
		t.Errorf("restart count %d", c.RestartCount)
	}
}

func TestHooks(t *testing.T) {
	n := newNode(t)
	spec := sh("trap 'cat /tmp/log; exit 0' TERM; touch /tmp/ready; while :; do sleep 0.05; done")
	spec.PostStart = []stack.Hook{{Command: []string{"sh", "-c", "echo post >> /tmp/log"}}}
	spec.PreStop = []stack.Hook{{Command: []string{"sh", "-c", "echo pre >> /tmp/log"}}}
	id := n.start("hooks", spec)
	n.until(n.ready(id, "/tmp/ready"), func(runtime.Event) bool { return true })
	n.ok(n.Stop(n.ctx(), id, "", nil))
	if got := n.log(id); got != "post\npre\n" {
		t.Errorf("%q", got)
	}
	spec.PostStart = []stack.Hook{{Command: []string{"sh", "-c", "echo broken; exit 4"}}}
	bad := n.create("badhook", spec)
	if err := n.Start(n.ctx(), bad); err == nil || !strings.Contains(err.Error(), "exit code 4: broken") {
		t.Errorf("start with a failing hook: %v", err)
	}
	if c := n.inspect(bad); c.State.Status == runtime.Running {
		t.Error("it still runs")
	}
}

func TestStopGraceAndSignals(t *testing.T) {
	n := newNode(t)
	stubborn := n.start("stubborn", sh("trap '' TERM; sleep 1000"))
	began := time.Now()
	short := 200 * time.Millisecond
	n.ok(n.Stop(n.ctx(), stubborn, "", &short))
	if d := time.Since(began); d < short || d > 5*time.Second {
		t.Errorf("stopped after %v", d)
	}
	if c := n.inspect(stubborn); c.State.ExitCode != 137 {
		t.Errorf("exit code %d", c.State.ExitCode)
	}
	polite := sh("trap 'exit 21' USR1; touch /tmp/ready; while :; do sleep 0.02; done")
	polite.StopSignal = "SIGUSR1"
	id := n.start("polite", polite)
	n.until(n.ready(id, "/tmp/ready"), func(runtime.Event) bool { return true })
	n.ok(n.Stop(n.ctx(), id, "", nil))
	if c := n.inspect(id); c.State.ExitCode != 21 {
		t.Errorf("exit code %d", c.State.ExitCode)
	}
	n.ok(n.Start(n.ctx(), id))
	n.ok(n.Pause(n.ctx(), id))
	n.ok(n.Stop(n.ctx(), id, "KILL", nil)) // a frozen one stops as well
}

func TestSharedNamespaces(t *testing.T) {
	n := newNode(t)
	first := sh("sleep 1000")
	first.IPCMode, first.Hostname = "shareable", "alpha"
	id := n.start("alpha", first)
	for kind, spec := range map[string]stack.ContainerSpec{
		"net": {NetworkMode: "container:alpha"}, "pid": {PIDMode: "container:" + id}, "ipc": {IPCMode: "container:alpha"},
	} {
		spec.Command = []string{"sh", "-c", "readlink /proc/self/ns/" + kind + "; echo x >> /dev/shm/f"}
		want, _ := n.exec(id, "readlink", "/proc/self/ns/"+kind)
		if got, _ := n.run(spec); got != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
	if out, _ := n.exec(id, "cat", "/dev/shm/f"); out != "x\n" {
		t.Errorf("shared memory %q", out)
	}
	n.ok(n.Stop(n.ctx(), id, "KILL", nil))
	joiner := n.create("", stack.ContainerSpec{NetworkMode: "container:alpha", Command: []string{"true"}})
	if err := n.Start(n.ctx(), joiner); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("join a stopped container: %v", err)
	}
}

func TestVolumesFromAndAnonymous(t *testing.T) {
	n := newNode(t)
	data := n.create("data", stack.ContainerSpec{Mounts: []stack.Mount{{Type: stack.MountVolume, Target: "/data"}}, Command: []string{"true"}})
	spec := sh("echo kept > /data/f")
	spec.VolumesFrom = []string{"data"}
	if _, code := n.run(spec); code != 0 {
		t.Fatalf("exit %d", code)
	}
	spec = sh("cat /data/f; touch /data/g 2>/dev/null || echo no")
	spec.VolumesFrom = []string{"data:ro"}
	if out, _ := n.run(spec); out != "kept\nno\n" {
		t.Errorf("%q", out)
	}
	if c := n.inspect(data); len(c.Mounts) != 1 || c.Mounts[0].Name == "" {
		t.Errorf("mounts %+v", c.Mounts)
	}
}

func TestCopy(t *testing.T) {
	n := newNode(t)
	spec := sh("mkdir -p /d/sub; echo hi > /d/f; ln -s /d/f /link; ln -s /../../../../../../etc /escape; echo vol > /v/x; sleep 1000")
	spec.Mounts = []stack.Mount{{Type: stack.MountVolume, Source: "copyvol", Target: "/v"}}
	id := n.start("copy", spec)
	n.until(n.ready(id, "/v/x"), func(runtime.Event) bool { return true })
	check := func(when string) {
		t.Helper()
		if got := n.tarOf(id, "/d"); got != "d/ d/f=hi\n d/sub/" {
			t.Errorf("%s: tar %q", when, got)
		}
		if got := n.tarOf(id, "/v/x"); got != "x=vol\n" {
			t.Errorf("%s: tar of a volume's file %q", when, got)
		}
		st, err := n.StatPath(n.ctx(), id, "/link")
		n.ok(err)
		if st.LinkTarget != "/d/f" || os.FileMode(st.Mode)&os.ModeSymlink == 0 {
			t.Errorf("%s: stat %+v", when, st)
		}
		if got := n.tarOf(id, "/escape/hostname"); !strings.HasPrefix(got, "hostname=") || strings.Contains(got, hostName()) {
			t.Errorf("%s: a link led out: %q", when, got)
		}
		if _, err := n.StatPath(n.ctx(), id, "/nope"); !errors.Is(err, runtime.ErrNotFound) {
			t.Errorf("%s: %v", when, err)
		}
		n.ok(n.CopyTo(n.ctx(), id, "/v", tarball(t, "new/file", "content"), false))
		if got := n.tarOf(id, "/v/new/file"); got != "file=content" {
			t.Errorf("%s: copied %q", when, got)
		}
		if err := n.CopyTo(n.ctx(), id, "/d/f", tarball(t, "x", ""), false); !errors.Is(err, runtime.ErrInvalid) {
			t.Errorf("%s: copy into a file: %v", when, err)
		}
		if err := n.CopyTo(n.ctx(), id, "/", tarball(t, "d", "file over directory"), true); !errors.Is(err, runtime.ErrInvalid) {
			t.Errorf("%s: directory overwritten: %v", when, err)
		}
	}
	check("running")
	n.ok(n.Stop(n.ctx(), id, "KILL", nil))
	check("stopped")
	n.leftovers()
}

func hostName() string {
	h, _ := os.Hostname()
	return h + "\n"
}

// ready is an event once a file is in the container.
func (n *node) ready(id, path string) <-chan runtime.Event {
	ch := make(chan runtime.Event, 1)
	for range 500 {
		if _, err := n.StatPath(n.ctx(), id, path); err == nil {
			ch <- runtime.Event{}
			return ch
		}
		if _, code := n.exec(id, "sleep", "0.02"); code != 0 {
			break
		}
	}
	return ch
}

func (n *node) tarOf(ref, path string) string {
	n.Helper()
	r, _, err := n.CopyFrom(n.ctx(), ref, path)
	n.ok(err)
	defer r.Close()
	var out []string
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return strings.Join(out, " ")
		}
		n.ok(err)
		word := h.Name
		if h.Typeflag == tar.TypeReg {
			data, err := io.ReadAll(tr)
			n.ok(err)
			word += "=" + string(data)
		}
		out = append(out, word)
	}
}

func tarball(t testing.TB, name, content string) io.Reader {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(w, content)
	w.Close()
	return &buf
}

func TestTopAndStats(t *testing.T) {
	n := newNode(t)
	id := n.start("top", sh("sleep 1000 & sleep 1001"))
	var titles []string
	var rows [][]string
	for deadline := time.Now().Add(20 * time.Second); len(rows) < 2 && time.Now().Before(deadline); {
		var err error
		titles, rows, err = n.Top(n.ctx(), id, nil)
		n.ok(err)
	}
	var err error
	if titles[1] != "PID" || len(rows) < 2 {
		t.Errorf("%v %v", titles, rows)
	}
	if _, rows, err = n.Top(n.ctx(), id, []string{"-o", "pid,args"}); err != nil || len(rows) < 2 || len(rows[0]) != 2 {
		t.Errorf("%v %v", rows, err)
	}
	s, err := n.Stats(n.ctx(), id)
	n.ok(err)
	if s.CPUNanos == 0 || s.Memory == 0 || s.Pids < 2 || s.SystemNanos == 0 || s.MemoryLimit == 0 {
		t.Errorf("%+v", s)
	}
	if _, err := n.Stats(n.ctx(), "nobody"); !errors.Is(err, runtime.ErrNotFound) {
		t.Error(err)
	}
}

func TestUpdateLimits(t *testing.T) {
	n := newNode(t)
	id := n.start("update", sh("sleep 1000"))
	n.ok(n.Update(n.ctx(), id, stack.Resources{Memory: 80 << 20}, &stack.RestartPolicy{Condition: "always"}))
	if s, _ := n.Stats(n.ctx(), id); s.MemoryLimit != 80<<20 {
		t.Errorf("limit %d", s.MemoryLimit)
	}
	if c := n.inspect(id); c.Spec.Restart.Condition != "always" || c.Spec.Resources.Memory != 80<<20 {
		t.Errorf("%+v", c.Spec.Resources)
	}
}

func TestOOMIsTold(t *testing.T) {
	n := newNode(t)
	spec := sh("x=a; while :; do x=$x$x; done")
	spec.Resources.Memory = 32 << 20
	id := n.start("oom", spec)
	if code := n.exit(id); code == 0 {
		t.Errorf("exit code %d", code)
	}
	if c := n.inspect(id); !c.State.OOMKilled {
		t.Errorf("state %+v", c.State)
	}
}

func TestEventsOfALife(t *testing.T) {
	n := newNode(t)
	events := n.bus.Subscribe(n.ctx(), time.Time{}, time.Time{})
	spec := sh("exit 3")
	spec.Labels = map[string]string{"tier": "x"}
	id := n.start("life", spec)
	n.exit(id)
	n.ok(n.Remove(n.ctx(), id, runtime.RemoveOptions{}))
	var got []string
	n.until(events, func(e runtime.Event) bool {
		if e.ID == id && e.Type == "container" {
			got = append(got, e.Action)
			if e.Attrs["name"] != "life" || e.Attrs["image"] != busybox || e.Attrs["tier"] != "x" {
				t.Errorf("attributes %v", e.Attrs)
			}
			if e.Action == "die" && e.Attrs["exitCode"] != "3" {
				t.Errorf("die %v", e.Attrs)
			}
		}
		return e.Action == "destroy"
	})
	if s := strings.Join(got, " "); s != "create start die destroy" {
		t.Errorf("events %s", s)
	}
}

func TestLogsFollowToTheEnd(t *testing.T) {
	n := newNode(t)
	id := n.start("follow", sh("i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done"))
	count := 0
	n.ok(n.Logs(n.ctx(), id, runtime.LogOptions{Stdout: true, Stderr: true, Tail: -1, Follow: true}, func(runtime.LogEntry) error {
		count++
		return nil
	}))
	if count != 300 {
		t.Errorf("%d lines", count)
	}
	ctx, cancel := context.WithCancel(context.Background())
	long := n.start("long", sh("echo one; sleep 1000"))
	err := n.Logs(ctx, long, runtime.LogOptions{Stdout: true, Tail: -1, Follow: true}, func(runtime.LogEntry) error {
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled follow: %v", err)
	}
}
