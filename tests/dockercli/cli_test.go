package dockercli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRestartPolicies(t *testing.T) {
	d := New(t, "busybox:latest")
	follow := d.follow("events", "--format", "{{json .}}", "--filter", "type=container", "--filter", "event=die")
	d.Args([]string{"run", "-d", "--name", "tries", "--restart", "on-failure:2", "busybox", "sh", "-c", "exit 3"})
	for range 3 { // once and two restarts
		var e event
		if err := follow.dec.Decode(&e); err != nil || e.Actor.Attributes["exitCode"] != "3" {
			t.Fatalf("%+v, %v", e, err)
		}
	}
	if got := strings.TrimSpace(d.Run("wait tries")); got != "3" {
		t.Errorf("wait: %s", got)
	}
	d.Args([]string{"inspect", "-f", "{{.RestartCount}} {{.State.Status}} {{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}}", "tries"}, "2 exited on-failure:2")
	d.Run("run -d --name always --restart always busybox sleep 1000")
	d.Run("exec always kill -9 1") // init ignores signals of its own namespace: nothing happens
	d.Run("kill always")           // by hand: it stays down
	d.Args([]string{"inspect", "-f", "{{.State.Status}}", "always"}, "exited")
	d.Fails(125, "run --rm --restart always busybox true", "onflict")
	_ = follow.cmd.Process.Kill()
	_ = follow.cmd.Wait()
}

func TestPsFiltersAndFormats(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Run("network create psnet")
	d.Run("volume create psvol")
	d.Run("run -d --name web --label tier=front --label x -p 127.0.0.1:8088:80 --expose 99 -v psvol:/data --network psnet busybox sleep 1000")
	d.Run("run -d --name db --label tier=back busybox sleep 1000")
	d.Args([]string{"run", "--name", "job", "busybox", "sh", "-c", "exit 0"})
	d.Docker("run", "--name", "bad", "busybox", "sh", "-c", "exit 9")
	d.Run("create --name new busybox true")
	d.Run("pause db")
	for filter, want := range map[string]string{
		"name=web": "web", "name=^/w": "web", "label=tier": "db web", "label=tier=back": "db", "status=paused": "db", "status=exited": "bad job",
		"status=created": "new", "exited=9": "bad", "exited=0": "job", "network=psnet": "web", "volume=psvol": "web", "volume=/data": "web",
		"publish=8088": "web", "expose=99/tcp": "web", "ancestor=busybox": "bad db job new web", "ancestor=busybox:latest": "bad db job new web",
		"before=db": "web", "since=job": "bad new", "health=none": "bad db job new web", "is-task=false": "bad db job new web", "label=nosuch": "",
	} {
		names := strings.Fields(d.Run("ps -a --format {{.Names}} --filter " + filter))
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want {
			t.Errorf("filter %s: %q, want %q", filter, got, want)
		}
	}
	d.Args([]string{"ps", "--filter", "name=web", "--format", "{{.Names}}|{{.Image}}|{{.Command}}|{{.Ports}}|{{.Labels}}|{{.Mounts}}|{{.Networks}}|{{.State}}|{{.LocalVolumes}}"},
		`web|busybox|"sleep 1000"|99/tcp, 127.0.0.1:8088->80/tcp|`, "tier=front", "|psvol|psnet|running|1")
	var row map[string]any
	if err := json.Unmarshal([]byte(d.Args([]string{"ps", "-a", "--format", "{{json .}}", "--filter", "name=bad"})), &row); err != nil || row["Names"] != "bad" || !strings.HasPrefix(fmt.Sprint(row["Status"]), "Exited (9)") {
		t.Errorf("%v %v", row, err)
	}
	if got := strings.Fields(d.Run("ps -a -n 2 --format {{.Names}}")); len(got) != 2 || got[0] != "new" {
		t.Errorf("last two: %v", got)
	}
	d.Run("ps -a -s --filter name=web", "(virtual ")
	d.Fails(1, "ps --filter status=nonsense", "status")
	d.Fails(1, "ps --filter exited=x", "exited")
}

func TestLogsSinceUntilTailFollow(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Args([]string{"run", "-d", "--name", "app", "busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; sleep 0.05; done; mkfifo /f; while read x < /f; do echo $x; test $x = end && exit; done"})
	d.waitLog("app", "line 5")
	if got := d.Run("logs --tail 2 app"); got != "line 4\nline 5\n" {
		t.Errorf("tail: %q", got)
	}
	if got := d.Run("logs --tail 0 app"); got != "" {
		t.Errorf("tail 0: %q", got)
	}
	stamps := strings.Split(d.Run("logs -t app"), "\n")
	third, err := time.Parse(time.RFC3339Nano, strings.Fields(stamps[2])[0])
	if err != nil {
		t.Fatalf("time of a line: %v", err)
	}
	if got := d.Run("logs --since " + third.Format(time.RFC3339Nano) + " --tail 1 app"); got != "line 5\n" {
		t.Errorf("since and tail: %q", got)
	}
	if got := d.Run("logs --since " + third.Format(time.RFC3339Nano) + " app"); !strings.HasPrefix(got, "line 3\n") {
		t.Errorf("since: %q", got)
	}
	if got := d.Run("logs --until " + third.Format(time.RFC3339Nano) + " app"); !strings.HasPrefix(got, "line 1\nline 2\n") || strings.Contains(got, "line 5") {
		t.Errorf("until: %q", got)
	}
	follow := d.Command("logs", "-f", "--since", "1h", "--tail", "1", "app")
	pipe, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(pipe)
	next := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("followed %q, want %q: %v", lines.Text(), want, lines.Err())
		}
	}
	next("line 5")
	d.Args([]string{"exec", "app", "sh", "-c", "echo more > /f"})
	next("more")
	d.Args([]string{"exec", "app", "sh", "-c", "echo end > /f"})
	next("end")
	if err := follow.Wait(); err != nil {
		t.Errorf("follow does not end with the container: %v", err)
	}
	d.Fails(1, "logs nosuch", "No such container: nosuch")
	d.Run("run --name quiet --log-driver none busybox echo unlogged", "unlogged")
	d.Fails(1, "logs quiet", "does not support reading")
}

func TestExecIsResized(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Run("run -d --name app busybox sleep 1000")
	var made struct{ ID string }
	d.call("POST", "/containers/app/exec", `{"Cmd":["sh","-c","while read x; do stty size; done"],"AttachStdin":true,"AttachStdout":true,"Tty":true,"ConsoleSize":[20,60]}`, 201, &made)
	conn, stream := d.upgrade("/exec/"+made.ID+"/start", `{"Tty":true}`)
	until := func(want string) {
		t.Helper()
		for {
			line, err := stream.ReadString('\n')
			if err != nil {
				t.Fatalf("waiting for %q: %v", want, err)
			}
			if strings.TrimSpace(line) == want {
				return
			}
		}
	}
	_, _ = io.WriteString(conn, "\n")
	until("20 60")
	d.call("POST", "/exec/"+made.ID+"/resize?h=44&w=132", "", 200, nil)
	_, _ = io.WriteString(conn, "\n")
	until("44 132")
	_, _ = io.WriteString(conn, "\x04")
	if _, err := io.Copy(io.Discard, stream); err != nil {
		t.Fatal(err)
	}
	d.exitCode(made.ID, 0)
	d.call("POST", "/exec/"+made.ID+"/resize?h=44&w=132", "", 409, nil)
	d.call("POST", "/exec/"+made.ID+"/resize?h=x&w=132", "", 400, nil)
	d.call("POST", "/containers/app/resize?h=44&w=132", "", 200, nil) // no terminal: nothing to do
}

func TestImagesInAndOut(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Run("tag busybox one:1")
	d.Run("tag busybox two:2")
	archive := filepath.Join(t.TempDir(), "both.tar")
	d.Args([]string{"save", "-o", archive, "one:1", "two:2"})
	d.Run("rmi one:1 two:2", "Untagged: one:1", "Untagged: two:2")
	d.Args([]string{"load", "-q", "-i", archive}, "one:1", "two:2")
	d.Args([]string{"images", "--filter", "reference=one*", "--format", "{{.Repository}}:{{.Tag}}"}, "one:1")
	d.Run("images --filter dangling=true -q")
	d.Args([]string{"history", "--format", "{{.ID}} {{.Size}}", "--no-trunc", "one:1"}, "sha256:", "MB")
	d.Args([]string{"image", "inspect", "-f", "{{.Os}}/{{.Architecture}} {{len .RootFS.Layers}}", "one:1"}, "linux/")
	d.Run("run --rm one:1 true")
	d.Fails(1, "save nosuch", "No such image: nosuch:latest")
	for _, ref := range []string{"127.0.0.1:1/x:1", "nosuch.invalid/x:1"} { // nobody answers: says who, and what to do
		d.Fails(1, "pull "+ref, ref, "does not answer", "dhow load")
		d.Fails(125, "run --rm "+ref+" true", "does not answer")
	}
	d.Fails(1, "push one:1", "not pushed")
	d.Fails(1, "search x", "not offered")
	d.Fails(1, "commit nosuch", "not offered")
	d.Run("image prune -af", "Total reclaimed space")
	if left := strings.TrimSpace(d.Run("images -q")); left != "" {
		t.Errorf("left after the prune: %s", left)
	}
}

func TestUpdateIsHonouredOrRefused(t *testing.T) {
	d := New(t, "busybox:latest")
	id := strings.TrimSpace(d.Run("run -d --name app --memory 64m --memory-swap 64m busybox sleep 1000"))
	d.Run("update --memory 96m --memory-swap 96m --cpus 0.5 --pids-limit 50 --restart unless-stopped app", "app")
	d.Args([]string{"inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}}", "app"}, "100663296 500000000 50 unless-stopped")
	kernel := map[string]string{}
	for name, files := range map[string][]string{
		"memory": {"/sys/fs/cgroup/memory/*/" + id + "/memory.limit_in_bytes", "/sys/fs/cgroup/*/" + id + "/memory.max"},
		"pids":   {"/sys/fs/cgroup/pids/*/" + id + "/pids.max", "/sys/fs/cgroup/*/" + id + "/pids.max"},
	} {
		for _, pattern := range files {
			found, _ := filepath.Glob(pattern)
			for _, f := range found {
				data, _ := os.ReadFile(f)
				kernel[name] = strings.TrimSpace(string(data))
			}
		}
	}
	if kernel["memory"] != "100663296" || kernel["pids"] != "50" {
		t.Errorf("the kernel has %v", kernel)
	}
	d.Fails(1, "update --memory 1k app", "least")
	d.Fails(1, "update --restart sometimes app", "sometimes")
	d.call("POST", "/containers/app/update", `{"CpuCount":2}`, 400, nil)
	d.Fails(1, "update --memory 64m nosuch", "No such container: nosuch")
}

// A running container is known by its new name at once.
func TestRename(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Run("network create rnet")
	d.Run("run -d --name before --network rnet busybox sleep 1000")
	d.Run("rename before after")
	d.Run("run --rm --network rnet busybox ping -c 1 -W 2 after", "1 packets received")
	d.Fails(1, "run --rm --network rnet busybox ping -c 1 -W 2 before", "bad address")
	d.Fails(1, "inspect before", "o such object: before")
	d.Run("run -d --name before --network rnet busybox sleep 1000") // the name is free
	d.Fails(1, "rename before after", "in use")
	d.Kill()
	d.Start()
	d.Run("run --rm --network rnet busybox ping -c 1 -W 2 after", "1 packets received")
	d.Fails(1, "rename after bad/name", "bad/name")
}

func TestSignalsPauseAndTop(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Args([]string{"run", "-d", "--name", "app", "busybox", "sh", "-c", "trap 'echo usr1' USR1; trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"})
	d.waitLog("app", "up")
	d.Run("kill -s USR1 app")
	d.waitLog("app", "usr1")
	d.Run("kill -s SIGUSR1 app")
	d.Run("kill -s 10 app")
	d.Fails(1, "kill -s NOPE app", "NOPE")
	d.Run("top app", "PID", "CMD")
	d.Run("top app -o pid,comm", "COMMAND")
	d.Run("pause app")
	d.Fails(1, "pause app", "paused")
	d.Fails(1, "attach app", "paused")
	d.Run("unpause app")
	wait := d.Command("wait", "app")
	out, err := wait.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := wait.Start(); err != nil {
		t.Fatal(err)
	}
	d.Run("stop app")
	if code, _ := io.ReadAll(out); string(code) != "3\n" || wait.Wait() != nil {
		t.Errorf("wait: %q", code)
	}
	d.Run("logs app", "bye")
	d.Fails(1, "top app", "not running")
	d.Run("start app")
	d.Run("pause app")
	d.Run("rm -f app", "app") // also when it is frozen
}

func TestCopyThroughStreams(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Run("run -d --name app -v data:/data busybox sleep 1000")
	d.Args([]string{"exec", "app", "sh", "-c", "mkdir -p /tree/sub; echo in > /tree/sub/f; ln -s sub/f /tree/link; chown 7:8 /tree/sub/f; chmod 4750 /tree/sub/f"})
	out := d.Command("cp", "app:/tree", "-")
	in := d.Command("cp", "-a", "-", "app:/data")
	pipe, err := out.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in.Stdin = pipe
	if err := out.Start(); err != nil {
		t.Fatal(err)
	}
	if text, err := in.CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, text)
	}
	if err := out.Wait(); err != nil {
		t.Fatal(err)
	}
	d.Args([]string{"exec", "app", "sh", "-c", "cat /data/tree/link; stat -c %a:%u:%g /data/tree/sub/f"}, "in\n", "4750:7:8")
	dir := t.TempDir()
	d.Args([]string{"cp", "app:/tree/link", filepath.Join(dir, "link")})
	if to, err := os.Readlink(filepath.Join(dir, "link")); err != nil || to != "sub/f" {
		t.Errorf("a link is copied as a link: %q, %v", to, err)
	}
	d.Args([]string{"cp", "-L", "app:/tree/link", filepath.Join(dir, "file")})
	if text, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(text) != "in\n" {
		t.Errorf("-L follows it: %q, %v", text, err)
	}
	d.Fails(1, "cp app:/none "+dir, "app", "/none") // in words of their own, some clients
	d.Fails(1, "cp "+dir+" app:/none/deeper", "none")
	d.Fails(1, "cp nosuch:/x "+dir, "nosuch")
	for path, want := range map[string]string{"app/archive?path=/none": "Could not find the file /none in container app", "nosuch/archive?path=/x": "No such container: nosuch"} {
		if text := d.call("GET", "/containers/"+path, "", 404, nil); !strings.Contains(text, want) {
			t.Errorf("%s: %q is not in %s", path, want, text)
		}
	}
}

func TestInfoAndVersion(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Run("run -d --name app busybox sleep 1000")
	d.Run("create --name new busybox true")
	d.Args([]string{"info", "--format", "{{.Containers}} {{.ContainersRunning}} {{.ContainersStopped}} {{.Images}} {{.Driver}} {{.DefaultRuntime}} {{.LiveRestoreEnabled}} {{.OSType}} {{.Swarm.LocalNodeState}}"},
		"2 1 1 1 overlayfs runc true linux inactive")
	d.Run("info", "Runtimes: runc", "Logging Driver: json-file", "Cgroup Driver: cgroupfs", "Default Runtime: runc")
	d.Args([]string{"version", "--format", "{{.Server.APIVersion}} {{.Server.MinAPIVersion}} {{.Server.Os}}"}, "1.51 1.24 linux")
	d.Run("system df -v", "busybox", "app")
	d.Args([]string{"stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}"}, "app 1")
	d.Run("plugin ls")
	d.Fails(1, "login -u a -p b 127.0.0.1:1", "config.json")
}

// TestSwarmOfOne: docker's view of a node before, while and after others may
// join it. What is made goes through stacks.
func TestSwarmOfOne(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Args([]string{"node", "ls", "--format", "{{.Status}} {{.Availability}} {{.ManagerStatus}}"}, "Ready Active Leader") // a node alone is a cluster of one
	d.Fails(1, "swarm join-token worker", "This node is not a swarm manager")
	d.Run("swarm init", "is now a manager", "docker swarm join --token DHOWTKN-1-", ":2377")
	d.Fails(1, "swarm init", "already part of a swarm")
	d.Args([]string{"info", "--format", "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}} {{.Swarm.Managers}} {{.Swarm.Nodes}}"}, "active true 1 1")
	d.Args([]string{"node", "ls", "--format", "{{.Status}} {{.Availability}} {{.ManagerStatus}} {{.Self}}"}, "Ready Active Leader true")
	for _, line := range []string{"service ls", "secret ls", "config ls", "stack ls"} {
		d.Run(line)
	}
	d.Fails(1, "service create --name s busybox", "dhow up")
	d.Fails(1, "swarm leave", "--force")
	d.Run("swarm leave --force", "Node left the swarm")
	d.Args([]string{"info", "--format", "{{.Swarm.LocalNodeState}}"}, "inactive")
}

func TestPruneOfEverything(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Run("network create unused")
	d.Run("network create used")
	d.Run("volume create named")
	d.Run("run -d --name app --network used -v kept:/k busybox sleep 1000")
	d.Run("run --name done -v /anon busybox true")
	volumes := func(version, filters string, want int) { // which go without being asked for depends on the version
		t.Helper()
		var gone struct{ VolumesDeleted []string }
		d.call("POST", version+"/volumes/prune?filters="+url.QueryEscape(filters), "", 200, &gone)
		if len(gone.VolumesDeleted) != want {
			t.Errorf("%s %s: volumes %v", version, filters, gone.VolumesDeleted)
		}
	}
	volumes("/v1.42", "", 0) // anonymous ones without users only
	d.Run("container prune -f", "Deleted Containers")
	d.Run("network prune -f", "unused")
	volumes("/v1.42", "", 1)
	d.Run("network inspect used")
	d.Run("volume inspect named kept")
	volumes("/v1.42", `{"all":["true"]}`, 1)
	d.Run("volume create another")
	volumes("/v1.41", "", 1) // named ones too
	d.Run("volume prune -f", "Total reclaimed space")
	d.Run("volume inspect kept")
	d.Run("system prune -f", "Total reclaimed space")
	d.Run("inspect app")
	old := url.QueryEscape(`{"until":["1h"]}`)
	d.Run("create --name young busybox true")
	d.call("POST", "/containers/prune?filters="+old, "", 200, nil)
	d.Run("inspect young") // not older than an hour
}
