package overlaynet_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/stack"
)

const crashEnv = "DHOW_OVERLAYNET_CRASH"

func crashSource() *source {
	return newSource(bridgeNet("tiny", "10.70.1.0/28"), dualNet("wide", 2))
}

// A process that connects and disconnects containers is killed at random
// moments, again and again. What its records say lives: no address and no
// port twice, everything else swept, and every address that is not in use can
// be had.
func TestKilledAtAnyMoment(t *testing.T) {
	if dir := os.Getenv(crashEnv); dir != "" {
		crashWorker(t, dir)
		return
	}
	if !inHost(t) {
		return
	}
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "records"), 0o700))
	ctx := context.Background()
	changes := 0
	runtime.LockOSThread() // Pdeathsig is about the thread that forks
	defer runtime.UnlockOSThread()
	for round := range 12 {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), crashEnv+"="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		// It prints a line with each change: killed some time after some line.
		buf := make([]byte, 1)
		for lines, goal := 0, rand.IntN(40)+1; lines < goal; {
			if _, err := out.Read(buf); err != nil {
				t.Fatalf("round %d: the worker ended by itself", round)
			}
			if buf[0] == '\n' {
				lines++
				changes++
			}
		}
		stop := time.Duration(rand.IntN(4000)) * time.Microsecond
		for end := time.Now().Add(stop); time.Now().Before(end); {
		}
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
	}
	t.Logf("%d changes in 12 lives", changes)

	n := idleNode(t, dir, crashSource())
	have := records(t, dir)
	must(t, n.Restore(ctx, have))
	seen := map[string]string{}
	plugs, tiny := 0, 0
	for _, r := range have {
		for _, e := range r.Endpoints {
			for _, a := range []string{e.IPv4, e.IPv6} {
				if holder, twice := seen[a]; twice && a != "" {
					t.Errorf("%s: %s and %s", a, holder, r.ID)
				}
				seen[a] = r.ID
			}
			if plugs++; e.Network == "tiny" {
				tiny++
			}
		}
		for _, p := range r.Connected.Ports {
			k := fmt.Sprint(p.HostIP, p.HostPort)
			if holder, twice := seen[k]; twice {
				t.Errorf("port %s: %s and %s", k, holder, r.ID)
			}
			seen[k] = r.ID
		}
		for _, e := range r.Endpoints {
			if got := run(t, "nsenter", "--net="+r.NetNS, "ip", "-o", "addr"); !strings.Contains(got, e.IPv4) {
				t.Errorf("%s should have %s:\n%s", r.ID, e.IPv4, got)
			}
		}
	}
	links, err := net.Interfaces()
	must(t, err)
	veths := 0
	for _, i := range links {
		if strings.HasPrefix(i.Name, overlaynet.Mark(dir)+"v") {
			veths++
		}
	}
	files, _ := os.ReadDir(filepath.Join(dir, "netns"))
	if veths != plugs || len(files) != len(have) {
		t.Errorf("%d links for %d places, %d namespaces for %d sandboxes", veths, plugs, len(files), len(have))
	}
	free := 0
	for ; ; free++ {
		c, err := n.Connect(ctx, overlaynet.Sandbox{ID: fmt.Sprint("fill", free), Attachments: on("tiny")})
		if err != nil {
			break
		}
		if holder, twice := seen[c.Endpoints[0].IPv4]; twice {
			t.Errorf("%s given again: %s has it", c.Endpoints[0].IPv4, holder)
		}
	}
	if want := 13; tiny+free != want {
		t.Errorf("%d in use and %d free of %d addresses", tiny, free, want)
	}
	must(t, n.Set(ctx, overlaynet.Config{}))
}

func records(t testing.TB, dir string) (out []overlaynet.Restored) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "records", "*.json"))
	must(t, err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		must(t, err)
		var r overlaynet.Restored
		must(t, json.Unmarshal(b, &r))
		out = append(out, r)
	}
	return out
}

// crashWorker lives like the daemon: takes over, then changes things from
// several goroutines, with a record of each sandbox on disk, until it is killed.
func crashWorker(t *testing.T, dir string) {
	n := newNode(t, dir, crashSource())
	ctx := context.Background()
	must(t, n.Restore(ctx, records(t, dir)))
	file := func(id string) string { return filepath.Join(dir, "records", id+".json") }
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("s%d-%d", g, rand.IntN(6))
				if _, err := os.Stat(file(id)); err == nil {
					if n.Disconnect(ctx, id) == nil {
						_ = os.Remove(file(id))
					}
				} else {
					sb := overlaynet.Sandbox{ID: id, Name: id, Attachments: on([][]string{{"tiny"}, {"wide"}, {"tiny", "wide"}}[rand.IntN(3)]...), Ports: []stack.Port{{ContainerPort: 80}}}
					c, err := n.Connect(ctx, sb)
					if err != nil {
						continue // full
					}
					b, err := json.Marshal(overlaynet.Restored{Sandbox: sb, Connected: *c})
					if err != nil || os.WriteFile(file(id)+".new", b, 0o600) != nil || os.Rename(file(id)+".new", file(id)) != nil {
						return
					}
				}
				fmt.Println(id)
			}
		})
	}
	wg.Wait()
}
