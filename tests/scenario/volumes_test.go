package scenario

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// volumeNames are the volumes of the host, sorted.
func (s *S) volumeNames() []string {
	s.Helper()
	names := strings.Fields(s.Run("volume", "ls", "-q"))
	slices.Sort(names)
	return names
}

// sh runs a script in a service's container and returns what it printed.
func (s *S) sh(service, script string) string {
	s.Helper()
	return s.Run("exec", "-T", service, "sh", "-c", script)
}

func TestEveryKindOfMount(t *testing.T) {
	s := Scenario(t, "every kind of mount is what the file says, and down -v removes the stack's volumes and no other", "busybox:latest", "nginx:latest")
	s.Write("conf/a.txt", "from the host\n")
	s.Run("volume", "create", "--label", "who=me", "outside")
	s.Compose(`
name: kinds
services:
  data:
    image: nginx
    entrypoint: [sleep, "1000"]
    stop_signal: SIGKILL
    volumes:
      - named:/named
      - /etc/nginx                # anonymous, with what the image has there
      - named2:/var/cache/nginx:nocopy
      - ./conf:/conf:ro
      - {type: bind, source: ./conf, target: /writable}
      - outside:/outside
      - {type: volume, source: named, target: /sub, volume: {subpath: deep/er}}
      - {type: tmpfs, target: /mem, tmpfs: {size: 1m, mode: 0700}}
    tmpfs: ["/mem2:size=2m,uid=5"]
    depends_on: {prepare: {condition: service_completed_successfully}}
  prepare:
    image: busybox
    command: [sh, -c, "mkdir -p /v/deep/er && echo below > /v/deep/er/f"]
    volumes: ["named:/v"]
  heir:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    volumes_from: [data]
  reader:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    volumes_from: ["data:ro"]
volumes:
  named: {labels: {tier: gold}}
  named2: {}
  outside: {external: true, name: outside}
`)
	s.Run("up", "-d", "--wait")

	s.Step("contents and access", func() {
		for _, tc := range []struct{ service, script, want string }{
			{"data", "cat /named/deep/er/f /sub/f /conf/a.txt", "below\nbelow\nfrom the host\n"},
			{"data", "test -s /etc/nginx/nginx.conf && echo copied", "copied\n"},
			{"data", "ls -A /var/cache/nginx | wc -l", "0\n"},
			{"data", "echo x > /conf/new 2>/dev/null || echo refused", "refused\n"},
			{"data", "echo x > /writable/new && cat /conf/new", "x\n"},
			{"data", "echo here > /sub/g && cat /named/deep/er/g", "here\n"},
			{"data", "stat -c %a /mem; grep -c '^tmpfs /mem tmpfs .*size=1024k' /proc/mounts", "700\n1\n"},
			{"data", "stat -c %u /mem2; grep -c '^tmpfs /mem2 tmpfs .*size=2048k' /proc/mounts", "5\n1\n"},
			{"data", "dd if=/dev/zero of=/mem/f bs=1M count=2 2>&1 | grep -o 'No space left on device'; rm /mem/f", "No space left on device\n"},
			{"heir", "cat /named/deep/er/f /sub/f; ls /sub; test -s /etc/nginx/nginx.conf && echo shared", "below\nbelow\nf\ng\nshared\n"},
			{"heir", "echo heir > /outside/h && echo ok", "ok\n"},
			{"reader", "cat /outside/h; echo no > /outside/r 2>/dev/null || echo refused", "heir\nrefused\n"},
		} {
			if got := s.sh(tc.service, tc.script); got != tc.want {
				t.Errorf("%s: %s: got %q, want %q", tc.service, tc.script, got, tc.want)
			}
		}
	})
	s.Step("labels and inspect", func() {
		var list []struct {
			Name   string
			Labels map[string]string
		}
		if err := json.Unmarshal([]byte(s.Run("volume", "inspect", "kinds_named")), &list); err != nil || len(list) != 1 {
			t.Fatalf("inspect: %v %v", err, list)
		}
		l := list[0].Labels
		if l["tier"] != "gold" || l["com.docker.compose.project"] != "kinds" || l["com.docker.compose.volume"] != "named" {
			t.Errorf("labels: %v", l)
		}
	})
	s.Step("a volume in use cannot be removed, and the error says by whom", func() {
		s.Refused([]string{"volume", "rm", "kinds_named"}, "kinds_named", "kinds-data-1")
	})
	s.Step("an anonymous volume follows its service to the new container", func() {
		s.sh("data", "echo kept > /etc/nginx/mine")
		s.Run("up", "-d", "--wait", "--force-recreate", "data")
		if got := s.sh("data", "cat /etc/nginx/mine"); got != "kept\n" {
			t.Errorf("got %q", got)
		}
	})
	s.Step("down keeps named volumes, and the data with them", func() {
		s.Run("down")
		s.Clean()
		if got := s.volumeNames(); !contains(got, "kinds_named", "kinds_named2", "outside") {
			t.Errorf("volumes: %v", got)
		}
		s.Run("up", "-d", "--wait")
		if got := s.sh("data", "cat /sub/g"); got != "here\n" {
			t.Errorf("got %q", got)
		}
	})
	s.Step("down -v leaves the external volume and nothing else", func() {
		s.Run("down", "-v")
		s.Run("volume", "prune", "--force")
		if got := s.volumeNames(); !slices.Equal(got, []string{"outside"}) {
			t.Errorf("volumes: %v", got)
		}
		if data, err := os.ReadFile(filepath.Join(s.DataDir, "volumes", "outside", "_data", "h")); string(data) != "heir\n" {
			t.Errorf("content of the external volume: %q %v", data, err)
		}
		if data, err := os.ReadFile(filepath.Join(s.Dir, "conf", "a.txt")); string(data) != "from the host\n" {
			t.Errorf("host path: %q %v", data, err)
		}
	})
	s.Clean()
}

func contains(list []string, want ...string) bool {
	return !slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(list, w) })
}

func TestVolumesWithOptions(t *testing.T) {
	s := Scenario(t, "driver_opts are honoured: a directory, memory, a file system with a limit", "busybox:latest")
	there := t.TempDir()
	if err := os.WriteFile(filepath.Join(there, "f"), []byte("mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.Compose(`
name: opts
services:
  a:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    volumes: ["there:/there", "mem:/mem", "limited:/limited"]
volumes:
  there: {driver_opts: {type: none, o: "bind,ro", device: ` + there + `}}
  mem: {driver_opts: {type: tmpfs, o: "size=1m"}}
  limited: {driver_opts: {type: ext4, o: "size=8m"}}
`)
	s.Run("up", "-d", "--wait")
	s.Step("each is what it says", func() {
		for _, tc := range []struct{ script, want string }{
			{"cat /there/f; echo x > /there/g 2>/dev/null || echo refused", "mine\nrefused\n"},
			{"grep -c '^tmpfs /mem tmpfs .*size=1024k' /proc/mounts", "1\n"},
			{"grep -c ' /limited ext4 ' /proc/mounts; ls -A /limited", "1\n"},
			{"dd if=/dev/zero of=/limited/f bs=1M count=16 2>&1 | grep -o 'No space left on device'; rm /limited/f; echo safe > /limited/s", "No space left on device\n"},
		} {
			if got := s.sh("a", tc.script); got != tc.want {
				t.Errorf("%s: got %q, want %q", tc.script, got, tc.want)
			}
		}
	})
	s.Step("they are mounted while somebody uses them, and keep what they can", func() {
		s.Run("down")
		s.Clean()
		s.Run("up", "-d", "--wait")
		if got := s.sh("a", "cat /limited/s; ls -A /mem"); got != "safe\n" {
			t.Errorf("got %q", got)
		}
	})
	s.Step("another definition of a volume that exists is refused, and the data stays", func() {
		s.Compose("name: opts\nservices:\n  a: {image: busybox, command: [sleep, '1000'], volumes: ['limited:/limited']}\nvolumes:\n  limited: {driver_opts: {type: ext4, o: 'size=16m'}}\n")
		s.Refused([]string{"up", "-d", "--wait"}, "limited")
	})
	s.Step("down -v removes them; the directory that one pointed to stays", func() {
		s.Run("down", "-v")
		if got := s.volumeNames(); len(got) != 0 {
			t.Errorf("volumes: %v", got)
		}
		if data, err := os.ReadFile(filepath.Join(there, "f")); string(data) != "mine\n" {
			t.Errorf("host directory: %q %v", data, err)
		}
	})
	s.Clean()
}
