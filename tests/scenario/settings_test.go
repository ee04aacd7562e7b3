package scenario

import (
	"fmt"
	"testing"
)

// One service with all settings of a process that a file can make, and one with the opposite.
const settingsFile = `
name: set
services:
  tight:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    init: true
    user: "1000:2000"
    group_add: ["3000"]
    working_dir: /made/up
    hostname: box
    environment: {PLAIN: a b, FROM_SHELL: , EMPTY: ""}
    env_file: [{path: app.env}, {path: none.env, required: false}]
    labels: {com.example.tier: "1"}
    read_only: true
    tmpfs: ["/scratch:size=2m,mode=1777", /tmp]
    shm_size: 8m
    cap_drop: [ALL]
    cap_add: [NET_BIND_SERVICE]
    security_opt: ["no-new-privileges:true"]
    sysctls: {net.core.somaxconn: 1234, net.ipv4.ip_unprivileged_port_start: "0"}
    ulimits: {nofile: {soft: 300, hard: 400}, nproc: 200}
    cpus: 0.5
    cpuset: "0"
    mem_limit: 64m
    mem_reservation: 32m
    memswap_limit: 64m
    pids_limit: 50
    oom_score_adj: 500
    ipc: private
    cgroup: private
  deployed:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    devices: ["/dev/fuse:/dev/myfuse:r"]
    deploy:
      labels: {com.example.only-of-the-service: "1"}
      resources:
        limits: {cpus: "0.25", memory: 48M, pids: 40}
        reservations: {memory: 24M}
  loose:
    image: busybox
    entrypoint: [sleep]
    command: ["1000"]
    stop_signal: SIGKILL
    privileged: true
    pid: host
    uts: host
    ipc: host
    cgroup: host
  unconfined:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    cap_add: [SYS_ADMIN]
    device_cgroup_rules: ["c 10:229 r"]
    security_opt: ["seccomp:unconfined", "apparmor:unconfined"]
    pid: service:tight
    ipc: shareable
`

// eachCgroup tries the files of cgroup v1 and v2 in turn.
func eachCgroup(v1, v2 string) string {
	return "cat /sys/fs/cgroup/" + v1 + " 2>/dev/null || cat /sys/fs/cgroup/" + v2
}

func TestSettingsReachTheProcess(t *testing.T) {
	s := Scenario(t, "what the file says of a process, its limits and its rights is what the kernel enforces", "busybox:latest")
	s.Write("app.env", "FROM_FILE=x=y\nPLAIN=overridden\n# comment\nQUOTED=\"with space\"\n")
	s.Compose(settingsFile)
	t.Setenv("FROM_SHELL", "shell")
	s.Run("up", "-d", "--wait")

	for _, c := range []struct{ what, service, script, want string }{
		{"user and groups", "tight", "id -u; id -g; grep Groups /proc/self/status | tr -s '\\t ' ' '", "1000\n2000\nGroups: 2000 3000"},
		{"working directory, made when missing", "tight", "readlink /proc/self/cwd", "/made/up"},
		{"host name", "tight", "hostname", "box"},
		{"init is process 1 and reaps", "tight", "(sleep 0 & exec true) & sleep 0.1; grep -c '^State:.Z' /proc/[0-9]*/status | grep -c ':1'", "0"},
		{"init", "tight", "tr '\\0' ' ' < /proc/1/cmdline | grep -c -v '^sleep'", "1"},
		{"environment", "tight", "echo $PLAIN,$FROM_SHELL,$EMPTY,$FROM_FILE,$QUOTED", "a b,shell,,x=y,with space"},
		{"read-only root", "tight", "touch /x 2>/dev/null || echo no; touch /scratch/x /tmp/x /dev/shm/x && echo yes", "no\nyes"},
		{"size and mode of tmpfs", "tight", "df -k /scratch | awk 'END{print $2}'; stat -c %a /scratch", "2048\n1777"},
		{"shm_size", "tight", "df -k /dev/shm | awk 'END{print $2}'", "8192"},
		{"capabilities", "tight", "grep -E 'CapBnd' /proc/self/status | cut -f2", "0000000000000400"},
		{"no new privileges", "tight", "grep NoNewPrivs /proc/self/status | cut -f2", "1"},
		{"seccomp by default", "tight", "grep Seccomp: /proc/self/status | cut -f2", "2"},
		{"sysctls", "tight", "cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/ip_unprivileged_port_start", "1234\n0"},
		{"ulimits", "tight", "ulimit -n; ulimit -Hn; ulimit -u", "300\n400\n200"},
		{"device, for reading only", "deployed", "(: < /dev/myfuse) && echo yes; (: > /dev/myfuse) 2>/dev/null || echo no", "yes\nno"},
		{"device rule", "unconfined", "mknod /f c 10 229; (: < /f) && echo yes; (: > /f) 2>/dev/null || echo no", "yes\nno"},
		{"cpus", "tight", eachCgroup("cpu/cpu.cfs_quota_us", "cpu.max") + " | cut -d' ' -f1", "50000"},
		{"cpuset", "tight", "grep Cpus_allowed_list /proc/self/status | cut -f2", "0"},
		{"memory", "tight", eachCgroup("memory/memory.limit_in_bytes", "memory.max"), "67108864"},
		{"memory reservation", "tight", eachCgroup("memory/memory.soft_limit_in_bytes", "memory.low"), "33554432"},
		{"pids", "tight", eachCgroup("pids/pids.max", "pids.max"), "50"},
		{"a fork bomb ends at the limit", "tight", "i=0; while [ $i -lt 80 ]; do sleep 2 & i=$((i+1)); done 2>&1 | grep -q -i fork && echo stopped", "stopped"},
		{"oom score", "tight", "cat /proc/1/oom_score_adj", "500"},
		{"limits of deploy", "deployed", eachCgroup("memory/memory.limit_in_bytes", "memory.max") + "; " + eachCgroup("pids/pids.max", "pids.max") + "; " + eachCgroup("cpu/cpu.cfs_quota_us", "cpu.max") + " | cut -d' ' -f1", "50331648\n40\n25000"},
		{"reservation of deploy", "deployed", eachCgroup("memory/memory.soft_limit_in_bytes", "memory.low"), "25165824"},
		{"capabilities by default", "deployed", "grep CapEff /proc/self/status | cut -f2", "00000000a80425fb"},
		{"privileged", "loose", "grep Seccomp: /proc/self/status | cut -f2; mkdir /m && mount -t tmpfs none /m && echo mounted; test -w /proc/sys/kernel/panic && echo writable", "0\nmounted\nwritable"},
		{"the host's processes", "loose", "test $(ls -d /proc/[0-9]* | wc -l) -gt 10 && echo many; readlink /proc/self/ns/pid", "many\n" + s.ns("pid")},
		{"the host's name and IPC", "loose", "for n in uts ipc; do readlink /proc/self/ns/$n; done", s.ns("uts") + "\n" + s.ns("ipc")},
		{"without seccomp, with a capability", "unconfined", "grep Seccomp: /proc/self/status | cut -f2; mkdir /m && mount -t tmpfs none /m && echo mounted", "0\nmounted"},
		{"processes of another service", "unconfined", "tr '\\0' ' ' < /proc/1/cmdline | grep -c sleep", "1"},
	} {
		t.Run(c.what, func(t *testing.T) {
			if out, code := s.try(c.service, c.script); out != c.want {
				t.Errorf("%s: %q (exit code %d), want %q", c.service, out, code, c.want)
			}
		})
	}
	s.Step("labels: those of the container, not those of the service", func() {
		labels := s.inspect("set-tight-1").Config.Labels
		if labels["com.example.tier"] != "1" || labels["com.docker.compose.service"] != "tight" {
			t.Errorf("labels: %v", labels)
		}
		if v, ok := s.inspect("set-deployed-1").Config.Labels["com.example.only-of-the-service"]; ok {
			t.Errorf("a label of deploy is on the container: %q", v)
		}
	})
	s.Run("down", "-v")
	s.Clean()
}

// ns is a namespace of the host, which is the daemon's, as /proc names it.
func (s *S) ns(kind string) string {
	s.Helper()
	r := s.Exec("readlink", "-n", fmt.Sprintf("/proc/%d/ns/%s", s.Pid(), kind))
	if r.Code != 0 {
		s.Fatal(r.Err())
	}
	return r.Stdout
}
