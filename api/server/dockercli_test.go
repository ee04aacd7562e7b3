package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cli runs the docker command line against a server. newCLI skips loudly where
// there is none: what it tests cannot be tested otherwise.
type cli struct {
	t    *testing.T
	host string
	home string
}

func newCLI(t *testing.T, socket string) *cli {
	t.Helper()
	if _, err := exec.LookPath("docker"); err != nil {
		t.Skip("SKIPPED: no docker command line on this machine: compatibility with it is not tested")
	}
	return &cli{t: t, host: "unix://" + socket, home: t.TempDir()}
}

func (c *cli) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	c.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = []string{"DOCKER_HOST=" + c.host, "HOME=" + c.home, "PATH=" + os.Getenv("PATH"), "TERM=xterm"}
	return cmd
}

// try returns output and whether it succeeded.
func (c *cli) try(args ...string) (string, bool) {
	c.t.Helper()
	out, err := c.command(args...).CombinedOutput()
	return string(out), err == nil
}

// run fails the test when the command does, or its output lacks one of want.
func (c *cli) run(args []string, want ...string) string {
	c.t.Helper()
	out, good := c.try(args...)
	if !good {
		c.t.Fatalf("docker %s:\n%s", strings.Join(args, " "), out)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			c.t.Errorf("docker %s: %q is not in:\n%s", strings.Join(args, " "), w, out)
		}
	}
	return out
}

// fails wants the command to fail and to say so.
func (c *cli) fails(args []string, want ...string) {
	c.t.Helper()
	out, good := c.try(args...)
	if good {
		c.t.Errorf("docker %s succeeded:\n%s", strings.Join(args, " "), out)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			c.t.Errorf("docker %s: %q is not in:\n%s", strings.Join(args, " "), w, out)
		}
	}
}

func words(s string) []string { return strings.Fields(s) }

func TestDockerCLISystem(t *testing.T) {
	c := newCLI(t, newWorld(t).socket)
	c.run(words("version"), "0.1-test", "1.51")
	c.run(words("info"), "Server Version: 0.1-test", "Storage Driver: overlayfs", "Name: host1")
	c.run(words("system df"), "Images", "Containers", "Local Volumes", "Build Cache")
	c.run(words("system df -v"), "busybox", "REPOSITORY")
	c.fails(words("build -t x ."), "")
	c.fails(words("node ls"), "no part in clusters")
}

func TestDockerCLIContainers(t *testing.T) {
	w := newWorld(t)
	c := newCLI(t, w.socket)
	c.run(words("ps -a"), "CONTAINER ID")
	id := strings.TrimSpace(c.run(words("run -d --name web -p 8080:80 -e A=b --label x=y busybox sleep 1000")))
	c.run(words("ps"), id[:12], "busybox", "web", "Up ")
	c.run(words("ps -q --no-trunc --filter name=^web$ --filter label=x=y"), id)
	if out := c.run(words("ps -q --filter label=other")); out != "" {
		t.Errorf("filter label=other: %q", out)
	}
	c.fails(words("ps --filter nonsense=1"), "invalid filter")
	c.run(words("inspect web"), `"Name": "/web"`, `"8080"`, `"A=b"`)
	c.run([]string{"inspect", "-f", "{{.State.Status}} {{.HostConfig.NetworkMode}}", "web"}, "running bridge")
	c.fails(words("run --name web busybox true"), "web", "in use")
	c.run(words("top web"), "sleep 1000")
	c.run(words("stats --no-stream web"), "web", "1MiB / 1GiB")
	c.run(words("port web"), "")
	c.run(words("pause web"), "web")
	c.run(words("ps"), "(Paused)")
	c.run(words("unpause web"), "web")
	c.run(words("rename web site"), "")
	c.fails(words("inspect web"), "o such object: web")
	c.run(words("restart -t 1 site"), "site")
	c.fails(words("rm site"), "running")
	c.run(words("kill site"), "site")
	c.fails(words("kill site"), "not running")
	c.run(words("wait site"), "137")
	c.run(words("ps -a --filter status=exited"), "Exited (137)")
	c.run(words("start site"), "site")
	c.run(words("stop -t 1 site"), "site")
	c.run(words("stop -t 1 site"), "site") // a stopped one: 304
	c.run(words("rm site"), "site")
	c.fails(words("rm site"), "No such container: site")
	c.run(words("create --name one busybox true"), "")
	c.run(words("container prune -f"), "Deleted Containers")
}

func TestDockerCLIRun(t *testing.T) {
	w := newWorld(t)
	c := newCLI(t, w.socket)
	if out := c.run(words("run --rm busybox echo hello world")); out != "hello world\n" {
		t.Errorf("run echo: %q", out)
	}
	cmd := c.command("run", "--rm", "busybox", "sh", "-c", "exit 7")
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("run exit 7: %v", err)
	}
	cmd = c.command("run", "-i", "--rm", "busybox", "cat")
	cmd.Stdin = strings.NewReader("some\ninput\n")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil || out.String() != "some\ninput\n" || errs.String() != "bye\n" {
		t.Errorf("run -i cat: %v, stdout %q, stderr %q", err, out.String(), errs.String())
	}
	c.fails(words("run --rm --pull never nosuchimage true"), "No such image: nosuchimage:latest")
	c.run(words("run --rm newimage echo pulled"), "Pulling from library/newimage", "Pull complete", "Downloaded newer image", "pulled")
	if got := w.engine.String(); got != "" {
		t.Errorf("containers left: %s", got)
	}
}

func TestDockerCLITerminal(t *testing.T) {
	w := newWorld(t)
	c := newCLI(t, w.socket)
	if _, err := exec.LookPath("script"); err != nil {
		t.Skip("SKIPPED: no script(1) on this machine: terminals are not tested")
	}
	// The keys are typed when the first output is there: before, the terminal
	// of script(1) would take them for itself.
	terminal := func(args, input, want string) {
		t.Helper()
		tty := exec.Command("script", "-qec", "stty rows 33 cols 111; docker "+args, "/dev/null")
		tty.Env = c.command().Env
		in, err := tty.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := tty.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := tty.Start(); err != nil {
			t.Fatal(err)
		}
		stop := time.AfterFunc(20*time.Second, func() { _ = tty.Process.Kill() })
		defer stop.Stop()
		seen, buf := "", make([]byte, 1024)
		_, _ = io.WriteString(in, input)
		for !strings.Contains(seen, want) {
			n, err := out.Read(buf)
			if seen += string(buf[:n]); err != nil {
				t.Fatalf("docker %s ended early: %q", args, seen)
			}
		}
		_, _ = io.WriteString(in, "\x10\x11") // ctrl-p ctrl-q: leave it
		rest, _ := io.ReadAll(out)
		_ = tty.Wait() // the CLI counts leaving an exec as a failure
		if all := seen + string(rest); strings.Contains(all, "Error") {
			t.Errorf("docker %s: %q", args, all)
		}
	}
	terminal("run -it --name tty busybox cat", "typed\n", "typed\n")
	if st, err := w.engine.Inspect(context.Background(), "tty"); err != nil || st.State.Status != "running" || !st.Spec.TTY {
		t.Errorf("after detaching: %+v, %v", st, err)
	}
	if sizes := w.engine.resizes(); !strings.Contains(sizes, "33x111") {
		t.Errorf("terminal sizes: %q", sizes)
	}
	terminal("exec -it tty cat", "again\n", "again\n")
}

func TestDockerCLILogsAndExec(t *testing.T) {
	w := newWorld(t)
	c := newCLI(t, w.socket)
	c.run(words("run -d --name app busybox sleep 1000"))
	_ = w.engine.Print("app", "stdout", "first")
	_ = w.engine.Print("app", "stderr", "second")
	cmd := c.command("logs", "app")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil || out.String() != "first\n" || errs.String() != "second\n" {
		t.Errorf("logs: %v, stdout %q, stderr %q", err, out.String(), errs.String())
	}
	c.run(words("logs -t --tail 1 app"), "Z second")

	follow := c.command("logs", "-f", "app")
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
	_ = w.engine.Print("app", "stdout", "later")
	if _, err := io.ReadFull(pipe, buf); err != nil || string(buf) != "later\n" {
		t.Errorf("logs -f: %q, %v", buf, err)
	}
	_ = w.engine.Exit("app", 0)
	if err := follow.Wait(); err != nil {
		t.Errorf("logs -f after the end: %v", err)
	}

	c.run(words("start app"))
	in := c.command("exec", "-i", "app", "cat")
	in.Stdin = strings.NewReader("through")
	if got, err := in.Output(); err != nil || string(got) != "through" {
		t.Errorf("exec -i cat: %q, %v", got, err)
	}
	w.engine.OnExec(execByName)
	fail := c.command("exec", "app", "no")
	if err := fail.Run(); fail.ProcessState.ExitCode() != 127 {
		t.Errorf("exec of a missing command: %v", err)
	}
	c.run(words("exec app yes"), "yes!")
	c.run(words("exec -d app yes"))
	c.fails(words("exec gone yes"), "No such container: gone")
}

func TestDockerCLIEvents(t *testing.T) {
	w := newWorld(t)
	c := newCLI(t, w.socket)
	ev := c.command("events", "--format", "{{json .}}", "--filter", "type=container", "--since", "1")
	pipe, err := ev.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := ev.Start(); err != nil {
		t.Fatal(err)
	}
	c.run(words("run --rm --name short busybox true"))
	dec := json.NewDecoder(pipe)
	var got []string
	for {
		var e struct {
			Action string
			Actor  struct{ Attributes map[string]string }
		}
		if err := dec.Decode(&e); err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		got = append(got, e.Action)
		if e.Actor.Attributes["name"] != "short" {
			t.Errorf("event %s has attributes %v", e.Action, e.Actor.Attributes)
		}
		if e.Action == "destroy" {
			break
		}
	}
	_ = ev.Process.Kill()
	_ = ev.Wait()
	if strings.Join(got, " ") != "create start die destroy" {
		t.Errorf("events: %v", got)
	}
}

func TestDockerCLIImages(t *testing.T) {
	w := newWorld(t)
	c := newCLI(t, w.socket)
	c.run(words("images"), "busybox", "redis", "REPOSITORY")
	c.run(words("images -q redis"), "")
	c.run(words("inspect busybox"), `"RepoTags"`, "busybox:latest")
	c.run(words("image inspect busybox"), `"Architecture": "amd64"`)
	c.run(words("history busybox"), "CMD sh", "<missing>")
	c.run(words("tag busybox my/box:v1"))
	c.run(words("images my/box"), "v1")
	c.run(words("rmi my/box:v1"), "Untagged: my/box:v1")
	c.fails(words("rmi my/box:v1"), "No such image: my/box:v1")
	c.run(words("pull alpine:3"), "Pulling from library/alpine", "Status: Downloaded newer image for alpine:3", "docker.io/library/alpine:3")
	c.fails(words("pull missing:1"), "pull access denied")
	c.fails(words("pull broken:1"), "unexpected end of file")
	archive := filepath.Join(t.TempDir(), "a.tar")
	c.run([]string{"save", "-o", archive, "busybox", "redis:7"})
	c.run([]string{"load", "-i", archive}, "Loaded image: loaded:latest")
	if err := os.WriteFile(archive, []byte("this is no archive, but long enough"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.fails([]string{"load", "-i", archive}, "not an image archive")
	c.fails(words("push busybox"), "not pushed")
	c.fails(words("search busybox"), "not offered")
}

func TestDockerCLIVolumesAndNetworks(t *testing.T) {
	w := newWorld(t)
	c := newCLI(t, w.socket)
	c.run(words("volume create --label a=b data"), "data")
	c.run(words("volume create data"), "data")
	c.run(words("volume ls"), "local", "data")
	c.run(words("volume inspect data"), `"a": "b"`, "Mountpoint")
	c.fails(words("volume inspect none"), "o such volume") // clients before 23 have words of their own
	c.run(words("volume rm data"), "data")
	c.run(words("volume prune -f"), "Total reclaimed space")

	c.run(words("network ls"), "bridge", "host", "none", "null")
	c.run(words("network create --subnet 10.9.0.0/24 --gateway 10.9.0.1 --label a=b back"))
	c.run(words("network inspect back"), `"10.9.0.0/24"`, `"10.9.0.1"`, `"a": "b"`)
	c.fails(words("network create back"), "already exists")
	c.run(words("run -d --name app --network back --network-alias api busybox sleep 1000"))
	c.run([]string{"inspect", "-f", "{{json .NetworkSettings.Networks}}", "app"}, `"back"`, `"api"`)
	c.run(words("network create other"))
	c.run(words("network connect --ip 10.1.0.5 other app"))
	c.run(words("network disconnect other app"))
	c.fails(words("network rm bridge"), "pre-defined")
	c.run(words("network rm back other"), "back")
	c.run(words("network prune -f"))
}

func TestDockerCLICopy(t *testing.T) {
	w := newWorld(t)
	c := newCLI(t, w.socket)
	c.run(words("run -d --name app busybox sleep 1000"))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.run([]string{"cp", filepath.Join(dir, "f"), "app:/"})
	c.run([]string{"cp", "app:/f", filepath.Join(dir, "g")})
	if got, err := os.ReadFile(filepath.Join(dir, "g")); err != nil || string(got) != "content" {
		t.Errorf("copied back: %q, %v", got, err)
	}
	c.fails([]string{"cp", "app:/missing", dir}, "app", "/missing")
}
