package dockercli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLifeOfAContainer(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Run("version", "API version:", "1.51")
	d.Run("info", "Storage Driver: overlayfs", "Server Version:")
	d.Run("ps -a", "CONTAINER ID")
	id := strings.TrimSpace(d.Run("run -d --name web -p 8080:80 -e A=b --label x=y --memory 64m busybox sleep 1000"))
	d.Run("ps", id[:12], "busybox", "web", "Up ", "8080->80/tcp")
	d.Run("ps -q --no-trunc --filter name=^/web$ --filter label=x=y --filter network=bridge --filter publish=8080", id)
	d.Run("inspect web", `"Name": "/web"`, `"8080"`, `"A=b"`, `"Memory": 67108864`)
	d.Args([]string{"inspect", "-f", "{{.State.Status}} {{.HostConfig.NetworkMode}} {{.NetworkSettings.IPAddress}}", "web"}, "running bridge 1")
	d.Fails(125, "run --name web busybox true", "web", "in use")
	d.Run("top web", "sleep 1000", "PID")
	d.Run("top web -o pid,args", "sleep 1000")
	d.Run("stats --no-stream web", "web", "/ 64MiB")
	d.Run("port web", "80/tcp -> 0.0.0.0:8080")
	d.Run("pause web", "web")
	d.Run("ps", "(Paused)")
	d.Fails(1, "exec web true", "paused")
	d.Run("unpause web")
	d.Run("update --memory 96m --memory-swap -1 --restart on-failure:3 web", "web")
	d.Args([]string{"inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}} {{.Config.Image}}", "web"}, "100663296 on-failure busybox")
	d.Run("rename web site")
	d.Fails(1, "inspect web", "o such object: web")
	d.Run("restart -t 0 site", "site")
	d.Fails(1, "rm site", "running")
	d.Run("kill site", "site")
	d.Run("wait site", "137")
	d.Fails(1, "kill site", "not running")
	d.Run("ps -a --filter status=exited --filter exited=137", "Exited (137)")
	d.Run("start site", "site")
	d.Run("stop -t 0 site", "site")
	d.Run("stop -t 0 site", "site")
	d.Run("rm site", "site")
	d.Fails(1, "rm site", "No such container: site")
	d.Run("create --name one busybox true")
	d.Run("system df", "Images", "Containers", "Local Volumes")
	d.Run("container prune -f", "Deleted Containers")
	d.Fails(1, "container ls --filter nonsense=1", "invalid filter")
}

func TestRun(t *testing.T) {
	d := New(t, "busybox:latest")
	for range 10 { // fast exits: nothing of the output or the code is missed
		if out := d.Run("run --rm busybox echo hello world"); out != "hello world\n" {
			t.Errorf("run echo: %q", out)
		}
	}
	if r := d.Docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7"); r.Code != 7 || r.Stdout != "out\n" || r.Stderr != "err\n" {
		t.Errorf("%+v", r)
	}
	d.Fails(127, "run --rm busybox /no/such/command", "/no/such/command")
	d.Fails(126, "run --rm busybox /etc", "/etc")
	d.Fails(125, "run --rm --pull never nosuch true", "No such image: nosuch:latest")
	d.Fails(125, "run --rm --network nosuch busybox true", "nosuch")
	d.Fails(125, "run --rm --isolation hyperv busybox true", "Isolation")
	for _, rm := range []string{"--rm", "--name=stays"} { // why a start failed is said once, not by the wait for its end too
		r := d.Docker("run", rm, "--mount", "type=bind,src=/no/such,dst=/x", "busybox", "true")
		if r.Code == 0 || !strings.Contains(r.Stderr, "/no/such does not exist") || strings.Contains(r.Stderr, "Error waiting") {
			t.Errorf("%+v", r)
		}
	}
	d.Run("rm stays")
	cmd := d.Command("run", "-i", "--rm", "busybox", "sh", "-c", "cat; echo end >&2")
	cmd.Stdin = strings.NewReader(strings.Repeat("some input\n", 100000))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil || out.Len() != 1100000 || errs.String() != "end\n" {
		t.Errorf("run -i cat: %v, %d bytes, stderr %q", err, out.Len(), errs.String())
	}
	for args, want := range map[string]string{
		"--user 5:6 busybox id -u": "5", "--workdir /tmp busybox pwd": "/tmp", "--hostname h busybox hostname": "h",
		"--entrypoint echo busybox x y": "x y", "--read-only busybox sh -c touch~/x~2>/dev/null||echo~ro": "ro",
		"--tmpfs /t:size=1m busybox df -k /t":                "1024",
		"--mount type=tmpfs,dst=/t busybox cat /proc/mounts": "/t tmpfs",
		"--ulimit nofile=77:77 busybox sh -c ulimit~-n":      "77", "--init busybox cat /proc/1/comm": "init",
		"--sysctl net.ipv4.ip_unprivileged_port_start=99 busybox cat /proc/sys/net/ipv4/ip_unprivileged_port_start": "99",
		"--add-host a:1.2.3.4 busybox cat /etc/hosts":                                                               "1.2.3.4", "--dns 9.9.9.9 busybox cat /etc/resolv.conf": "nameserver",
		"--shm-size 8m busybox df -k /dev/shm": "8192", "--network none busybox ls /sys/class/net": "lo",
		"-v vol:/v busybox sh -c echo~kept>/v/f;cat~/v/f": "kept", "--cap-drop ALL busybox grep CapEff /proc/self/status": "0000000000000000",
	} {
		fields := append([]string{"run", "--rm"}, strings.Fields(args)...)
		for i := range fields {
			fields[i] = strings.ReplaceAll(fields[i], "~", " ")
		}
		d.Args(fields, want)
	}
	d.Run("run --rm -v vol:/v:ro busybox cat /v/f", "kept")
	d.Run("volume rm vol", "vol")
	if left := d.Run("ps -aq"); left != "" {
		t.Errorf("containers left: %s", left)
	}
}

func TestTerminal(t *testing.T) {
	d := New(t, "busybox:latest")
	if _, err := exec.LookPath("script"); err != nil {
		t.Skip("NOT RUN: no script(1) on this machine: terminals are not tested")
	}
	d.interact("run -it --name tty busybox sh", 0, [][2]string{{"stty size\n", "33 111"}, {"echo a$((1+1))b\n", "a2b"}, {"exit\n", ""}})
	d.Run("start tty")
	d.interact("exec -it tty sh", 3, [][2]string{{"stty size\n", "33 111"}, {"tty\n", "/dev/pts/"}, {"exit 3\n", ""}})
	// The keys leave the terminal and the shell goes on. Of the three, docker's own client calls leaving an attach a failure ("read escape sequence").
	d.interact("attach tty", 1, [][2]string{{"echo b$((1+1))c\n", "b2c"}, {"\x10\x11", ""}})
	d.Args([]string{"inspect", "-f", "{{.State.Status}}", "tty"}, "running")
	d.interact("run -it --name left busybox sh", 0, [][2]string{{"echo c$((1+1))d\n", "c2d"}, {"\x10\x11", ""}})
	d.interact("run -it --name keys --detach-keys ctrl-a,x busybox sh", 0, [][2]string{{"echo d$((1+1))e\n", "d2e"}, {"\x01x", ""}})
	d.Args([]string{"inspect", "-f", "{{.State.Status}}", "left", "keys"}, "running\nrunning\n")
	d.Run("rm -f tty left keys")
}

// interact types lines in a terminal, each when the answer to the one before is there.
func (d *Docker) interact(line string, code int, steps [][2]string) {
	d.Helper()
	cmd := d.Command()
	tty := exec.Command("script", "-qec", "stty rows 33 cols 111; docker "+line, "/dev/null")
	tty.Env = cmd.Env
	in, err := tty.StdinPipe()
	if err != nil {
		d.Fatal(err)
	}
	out, err := tty.StdoutPipe()
	if err != nil {
		d.Fatal(err)
	}
	if err := tty.Start(); err != nil {
		d.Fatal(err)
	}
	stop := time.AfterFunc(30*time.Second, func() { _ = tty.Process.Kill() })
	defer stop.Stop()
	seen, buf := "", make([]byte, 4096)
	until := func(want string) {
		for !strings.Contains(seen, want) {
			n, err := out.Read(buf)
			if seen += string(buf[:n]); err != nil {
				d.Fatalf("docker %s ended early, waiting for %q: %q", line, want, seen)
			}
		}
	}
	for _, s := range steps {
		if !strings.HasPrefix(line, "attach") || seen != "" {
			until("# ") // the prompt
		}
		seen = ""
		_, _ = io.WriteString(in, s[0])
		until(s[1])
	}
	rest, _ := io.ReadAll(out)
	_ = tty.Wait()
	if got := tty.ProcessState.ExitCode(); got != code {
		d.Errorf("docker %s: exit code %d, want %d: %q", line, got, code, seen+string(rest))
	}
}

func TestLogsAndExec(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Args([]string{"run", "-d", "--name", "app", "busybox", "sh", "-c", "echo first; echo second >&2; read x < /tmp/f || mkfifo /tmp/f; read x < /tmp/f; echo later"})
	d.waitLog("app", "second")
	d.waitLog("app", "first") // another stream, of which nobody promises that it is read sooner
	r := d.Docker("logs", "app")
	if r.Stdout != "first\n" || !strings.Contains(r.Stderr, "second\n") {
		t.Errorf("logs: %+v", r)
	}
	d.Run("logs -t --tail 1 app", "Z ")
	d.Run("logs --since 1h app", "first")
	if out := d.Docker("logs", "--until", "1h", "app"); out.Stdout != "" {
		t.Errorf("logs --until 1h: %q", out.Stdout)
	}
	follow := d.Command("logs", "-f", "app")
	pipe, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 6)
	if _, err := io.ReadFull(pipe, buf); err != nil || string(buf) != "first\n" {
		t.Fatalf("logs -f: %q, %v", buf, err)
	}
	d.Args([]string{"exec", "app", "sh", "-c", "echo go > /tmp/f"})
	if _, err := io.ReadFull(pipe, buf); err != nil || string(buf) != "later\n" {
		t.Errorf("logs -f: %q, %v", buf, err)
	}
	if err := follow.Wait(); err != nil {
		t.Errorf("logs -f after the end: %v", err)
	}
	d.Run("run -d --name sleeper busybox sleep 1000")
	in := d.Command("exec", "-i", "sleeper", "cat")
	in.Stdin = strings.NewReader("through")
	if got, err := in.Output(); err != nil || string(got) != "through" {
		t.Errorf("exec -i cat: %q, %v", got, err)
	}
	d.Fails(127, "exec sleeper /no/such", "/no/such")
	d.Fails(126, "exec sleeper /etc", "/etc")
	if r := d.Docker("exec", "sleeper", "sh", "-c", "exit 5"); r.Code != 5 {
		t.Errorf("exec: exit code %d, want 5", r.Code)
	}
	r = d.Docker("exec", "-e", "A=b", "-w", "/tmp", "-u", "7", "sleeper", "sh", "-c", "echo $A; pwd; id -u; exit 5")
	if r.Code != 5 || r.Stdout != "b\n/tmp\n7\n" {
		t.Errorf("exec: %+v", r)
	}
	d.Run("exec -d sleeper touch /tmp/detached")
	d.Fails(1, "exec app true", "not running")
	d.Fails(1, "exec gone true", "No such container: gone")
	d.Run("rm -f app sleeper")
}

// waitLog waits until a line is in the log.
func (d *Docker) waitLog(name, want string) {
	d.Helper()
	cmd := d.Command("logs", "-f", name)
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		d.Fatal(err)
	}
	go func() { _ = cmd.Wait(); _ = w.Close() }()
	seen, buf := "", make([]byte, 4096)
	for !strings.Contains(seen, want) {
		n, err := r.Read(buf)
		if seen += string(buf[:n]); err != nil {
			d.Fatalf("log of %s ended: %q", name, seen)
		}
	}
	_ = cmd.Process.Kill()
	_, _ = io.Copy(io.Discard, r)
}

func TestEvents(t *testing.T) {
	d := New(t, "busybox:latest")
	follow := d.follow("events", "--format", "{{json .}}")
	d.Run("network create enet")
	d.Args([]string{"run", "--rm", "--name", "short", "--network", "enet", "-v", "evol:/v", "--health-cmd", "true", "--health-interval", "200ms", "busybox", "sleep", "1"})
	d.Run("network rm enet")
	d.Run("volume rm evol")
	var order []string
	got := follow.until("volume destroy")
	for _, e := range got {
		switch key := e.Type + " " + e.Action; {
		case e.Type == "image", strings.HasPrefix(e.Action, "exec_"): // of the health check, which may be under way at the end
		default:
			order = append(order, key)
		}
		if e.Action == "die" && e.Actor.Attributes["exitCode"] != "0" {
			t.Errorf("die: %v", e.Actor.Attributes)
		}
		if (e.Action == "connect" || e.Action == "mount") && e.Actor.Attributes["container"] == "" {
			t.Errorf("%s %s: %v", e.Type, e.Action, e.Actor.Attributes)
		}
	}
	want := []string{"network create", "container create", "container attach", "volume create", "network connect", "volume mount", "container start",
		"container health_status: healthy", "container die", "network disconnect", "volume unmount", "container destroy", "network destroy", "volume destroy"}
	if !slices.Equal(order, want) {
		t.Errorf("events\n%v\nwant\n%v", order, want)
	}
	// Filters, and a past with an end.
	span := fmt.Sprintf("--since %d --until %d ", got[0].Time-1, got[len(got)-1].Time+1) // whole seconds
	out := d.Run("events " + span + "--filter type=network --filter event=connect --format {{.Action}}:{{.Actor.Attributes.name}}")
	if out != "connect:enet\n" {
		t.Errorf("filtered: %q", out)
	}
	if out := d.Run("events " + span + "--filter container=short --filter event=die --filter event=start --format {{.Status}}"); out != "start\ndie\n" {
		t.Errorf("filtered by container: %q", out)
	}
}

func TestOutOfMemoryIsTold(t *testing.T) {
	d := New(t, "busybox:latest")
	follow := d.follow("events", "--format", "{{json .}}", "--filter", "type=container", "--filter", "event=oom", "--filter", "event=die")
	d.Fails(137, "run --name big --memory 16m --memory-swap 16m busybox tail /dev/zero")
	var order []string
	for _, e := range follow.until("container die") {
		order = append(order, e.Action)
	}
	if !slices.Equal(order, []string{"oom", "die"}) {
		t.Errorf("events %v", order)
	}
	d.Args([]string{"inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", "big"}, "true 137")
}

// event is what a test reads of one.
type event struct {
	Type, Action string
	Time         int64
	Actor        struct {
		ID         string
		Attributes map[string]string
	}
}

type follower struct {
	d   *Docker
	cmd *exec.Cmd
	dec *json.Decoder
}

// follow starts docker with output that is one JSON object after the other:
// `events` from this moment on, however late the client itself asks.
func (d *Docker) follow(args ...string) *follower {
	d.Helper()
	now := time.Now()
	cmd := d.Command(append(args, "--since", fmt.Sprintf("%d.%09d", now.Unix(), now.Nanosecond()))...)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		d.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.Fatal(err)
	}
	return &follower{d, cmd, json.NewDecoder(pipe)}
}

// until reads up to the event "TYPE ACTION" and ends the command.
func (f *follower) until(last string) (seen []event) {
	f.d.Helper()
	for {
		var e event
		if err := f.dec.Decode(&e); err != nil {
			f.d.Fatalf("no %s after %v: %v", last, seen, err)
		}
		if seen = append(seen, e); e.Type+" "+e.Action == last {
			_ = f.cmd.Process.Kill()
			_ = f.cmd.Wait()
			return seen
		}
	}
}

func TestImages(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Run("images", "busybox", "latest", "REPOSITORY")
	d.Run("inspect busybox", `"RepoTags"`, "busybox:latest")
	d.Run("history busybox", "IMAGE")
	d.Run("tag busybox my/box:v1")
	d.Run("images my/box", "v1")
	archive := filepath.Join(t.TempDir(), "a.tar")
	d.Args([]string{"save", "-o", archive, "my/box:v1"})
	d.Run("rmi my/box:v1", "Untagged: my/box:v1")
	d.Fails(1, "rmi my/box:v1", "No such image: my/box:v1")
	d.Args([]string{"load", "-i", archive}, "Loaded image: my/box:v1")
	d.Run("run --rm my/box:v1 echo from the archive", "from the archive")
	d.Run("run -d --name user my/box:v1 sleep 1000")
	id := strings.TrimSpace(d.Run("images -q --no-trunc my/box"))
	d.Fails(1, "rmi "+id, "")
	d.Run("rm -f user")
	if err := os.WriteFile(archive, []byte("this is no archive, but it is long enough for one"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Fails(1, "load -i "+archive, "rror")
	d.Fails(1, "pull 127.0.0.1:1/nothing:1", "rror")
	d.Run("image prune -f", "Total reclaimed space")
}

func TestVolumesAndNetworks(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Run("volume create --label a=b data", "data")
	d.Run("volume create data", "data")
	d.Run("volume ls --filter label=a=b", "local", "data")
	d.Run("volume inspect data", `"a": "b"`, "Mountpoint")
	d.Fails(1, "volume inspect none", "o such volume")
	d.Run("run -d --name user -v data:/d busybox sleep 1000")
	d.Fails(1, "volume rm data", "in use")
	d.Run("rm -f user")
	d.Run("volume rm data", "data")
	d.Run("volume prune -f", "Total reclaimed space")

	d.Run("network ls", "bridge", "host", "none", "null")
	d.Run("network create --subnet 10.9.0.0/24 --gateway 10.9.0.1 --label a=b back")
	d.Run("network inspect back", `"10.9.0.0/24"`, `"10.9.0.1"`, `"a": "b"`)
	d.Fails(1, "network create back", "already exists")
	d.Run("run -d --name app --network back --network-alias api --ip 10.9.0.77 busybox sleep 1000")
	d.Args([]string{"inspect", "-f", "{{json .NetworkSettings.Networks}}", "app"}, `"back"`, `"api"`, `"10.9.0.77"`)
	d.Run("network inspect back", `"10.9.0.77/24"`, `"Name": "app"`)
	d.Run("run --rm --network back busybox ping -c 1 -W 2 api", "10.9.0.77")
	d.Fails(1, "network rm back", "active endpoints")
	d.Fails(1, "network rm bridge", "pre-defined")
	d.Run("rm -f app")
	d.Run("network rm back", "back")
	d.Run("network prune -f")
}

func TestNetworkConnect(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Run("network create --subnet 10.8.0.0/24 other")
	d.Run("run -d --name app busybox sleep 1000")
	d.Run("network connect --alias extra --ip 10.8.0.99 other app")
	d.Run("run --rm --network other busybox ping -c 1 -W 2 extra", "10.8.0.99", "1 packets received")
	d.Args([]string{"inspect", "-f", "{{len .NetworkSettings.Networks}} {{.NetworkSettings.Networks.other.IPAddress}}", "app"}, "2 10.8.0.99")
	d.Run("network inspect other", `"10.8.0.99/24"`)
	d.Fails(1, "network connect other app", "already exists in network other")
	d.Run("network disconnect bridge app")
	d.Run("exec app cat /etc/resolv.conf", "10.8.0.1")
	d.Kill() // the next daemon knows
	d.Start()
	if out := d.Args([]string{"inspect", "-f", "{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{end}}", "app"}); out != "other \n" {
		t.Errorf("networks %q", out)
	}
	d.Run("run --rm --network other busybox ping -c 1 -W 2 extra", "1 packets received")
	d.Fails(1, "network rm other", "active endpoints")
	d.Run("network disconnect other app")
	d.Args([]string{"inspect", "-f", "{{len .NetworkSettings.Networks}}", "app"}, "0")
	d.Fails(1, "network disconnect other app", "not connected")
	d.Run("stop -t 0 app") // stopped, it is connected at the next start
	d.Run("network connect --alias later other app")
	d.Run("start app")
	d.Run("run --rm --network other busybox ping -c 1 -W 2 later", "1 packets received")
	d.Run("run -d --name lonely --network none busybox sleep 1000")
	d.Fails(1, "network connect other lonely", "without networks")
	d.Fails(1, "network connect nosuch app", "network nosuch not found")
	d.Run("rm -f app lonely")
	d.Run("network rm other")
}

func TestCopy(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Run("run -d --name app busybox sleep 1000")
	dir := t.TempDir()
	for i := range 3 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("f", i)), []byte("content"), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	d.Args([]string{"cp", dir, "app:/into"})
	d.Run("exec app cat /into/f2", "content")
	back := filepath.Join(t.TempDir(), "back")
	d.Args([]string{"cp", "app:/into", back})
	if got, err := os.ReadFile(filepath.Join(back, "f1")); err != nil || string(got) != "content" {
		t.Errorf("copied back: %q, %v", got, err)
	}
	d.Fails(1, "cp app:/missing "+dir, "app", "/missing")
	d.Run("stop -t 0 app")
	d.Args([]string{"cp", filepath.Join(dir, "f0"), "app:/stopped"})
	d.Args([]string{"cp", "app:/stopped", filepath.Join(dir, "g")})
	d.Run("diff app", "A /into")
	export := filepath.Join(dir, "export.tar")
	d.Args([]string{"export", "-o", export, "app"})
	if st, err := os.Stat(export); err != nil || st.Size() < 1<<16 {
		t.Errorf("export: %v, %v", st, err)
	}
	d.Run("rm app")
}
