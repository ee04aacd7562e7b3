package scenario

import (
	"strings"
	"testing"
)

const twoServices = `
name: shop
services:
  web:
    image: nginx:latest
    ports: ["8080:80"]
    configs: [{source: page, target: /usr/share/nginx/html/index.html}]
    depends_on: {cache: {condition: service_healthy}}
  cache:
    image: redis:7
    volumes: ["data:/data"]
    secrets: [key]
    healthcheck: {test: [CMD, redis-cli, ping], interval: 5s, start_interval: 200ms, start_period: 10s}
volumes: {data: {}}
configs: {page: {file: ./page.html}}
secrets: {key: {file: ./key.txt}}
`

func TestUpServesAPageAndDownLeavesNothing(t *testing.T) {
	s := Scenario(t, "a stack file becomes running services with a served page, and down leaves nothing behind", "nginx:latest", "redis:7")
	s.Compose(twoServices)
	s.Write("page.html", "hello from dhow\n")
	s.Write("key.txt", "s3cret")
	s.Step("up --wait", func() { s.Run("up", "-d", "--wait") })
	s.Step("the page is served on localhost and on the host's address", func() {
		for _, url := range []string{"http://127.0.0.1:8080/", "http://" + s.Addr + ":8080/"} {
			if r := s.Get(url); r.Stdout != "hello from dhow\n" {
				t.Errorf("%s: %q %s", url, r.Stdout, r.Stderr)
			}
		}
	})
	s.Step("ps knows the containers", func() {
		ps := s.PS()
		if c := ps["shop-cache-1"]; c.State != "running" || c.Health != "healthy" || c.Service != "cache" {
			t.Errorf("cache: %+v", c)
		}
		if c := ps["shop-web-1"]; len(c.Publishers) == 0 || c.Publishers[0].PublishedPort != 8080 || c.Publishers[0].TargetPort != 80 {
			t.Errorf("web: %+v", c)
		}
	})
	s.Step("the secret is a file on tmpfs", func() {
		out := s.Run("exec", "-T", "cache", "sh", "-c", "cat /run/secrets/key; grep ' /run/secrets' /proc/self/mounts")
		if !strings.HasPrefix(out, "s3cret") || !strings.Contains(out, "tmpfs") {
			t.Errorf("got %q", out)
		}
	})
	s.Step("down keeps the named volume and nothing else", func() {
		s.Run("down")
		s.Clean()
		if out := s.Run("volume", "ls", "-q"); strings.TrimSpace(out) != "shop_data" {
			t.Errorf("volumes: %q", out)
		}
	})
	s.Step("down -v removes it", func() {
		s.Run("down", "-v")
		if out := s.Run("volume", "ls", "-q"); strings.TrimSpace(out) != "" {
			t.Errorf("volumes: %q", out)
		}
	})
}

func TestUpTouchesOnlyWhatChanged(t *testing.T) {
	s := Scenario(t, "up twice changes nothing; an edit recreates the service that it is about and no other", "nginx:latest", "redis:7")
	s.Compose(twoServices)
	s.Write("page.html", "one\n")
	s.Write("key.txt", "s3cret")
	s.Run("up", "-d", "--wait")
	first := s.IDs()

	s.Step("a second up changes nothing", func() {
		if out := s.Run("plan"); strings.TrimSpace(out) != "no changes" {
			t.Errorf("plan: %s", out)
		}
		s.Run("up", "-d", "--wait")
		s.Same(first, s.IDs(), "shop-web-1", "shop-cache-1")
	})
	s.Step("editing one service recreates it only", func() {
		s.Compose(strings.Replace(twoServices, "image: nginx:latest", "image: nginx:latest\n    environment: {COLOUR: blue}", 1))
		if out := s.Run("plan"); !strings.Contains(out, "service web: recreate") || strings.Contains(out, "cache") {
			t.Errorf("plan: %s", out)
		}
		before := s.IDs()
		s.Run("up", "-d", "--wait")
		s.Same(before, s.IDs(), "shop-cache-1")
	})
	s.Step("editing a config recreates its users only", func() {
		s.Write("page.html", "two\n")
		before := s.IDs()
		s.Run("up", "-d", "--wait")
		s.Same(before, s.IDs(), "shop-cache-1")
		if r := s.Get("http://127.0.0.1:8080/"); r.Stdout != "two\n" {
			t.Errorf("page: %q", r.Stdout)
		}
	})
	s.Step("editing a secret recreates its users only", func() {
		s.Write("key.txt", "other")
		before := s.IDs()
		s.Run("up", "-d", "--wait")
		s.Same(before, s.IDs(), "shop-web-1")
		if out := s.Run("exec", "-T", "cache", "cat", "/run/secrets/key"); out != "other" {
			t.Errorf("secret: %q", out)
		}
	})
	s.Step("scaling leaves the container that is there", func() {
		before := s.IDs()
		s.Run("up", "-d", "--wait", "--scale", "cache=3")
		after := s.IDs()
		s.Same(before, after, "shop-web-1", "shop-cache-1")
		if len(after) != 4 {
			t.Errorf("containers: %v", after)
		}
	})
	s.Run("down", "-v")
	s.Clean()
}

func TestOneShotsAndFailures(t *testing.T) {
	s := Scenario(t, "--wait counts a completed one-shot as success and ends with the output of a service that fails", "busybox:latest")
	s.Step("a completed one-shot is success, its dependents run after it", func() {
		s.Compose(`
name: jobs
services:
  init: {image: busybox, command: [sh, -c, "echo prepared > /d/f"], volumes: ["disk:/d"]}
  app:
    image: busybox
    command: [sh, -c, "cat /d/f && sleep 1000"]
    stop_signal: SIGKILL
    volumes: ["disk:/d"]
    depends_on: {init: {condition: service_completed_successfully}}
volumes: {disk: {}}
`)
		s.Run("up", "-d", "--wait")
		if out := s.Run("logs", "--no-log-prefix", "app"); out != "prepared\n" {
			t.Errorf("logs: %q", out)
		}
	})
	s.Step("a second up does not run the one-shot again", func() {
		before := s.IDs()
		s.Run("up", "-d", "--wait")
		s.Same(before, s.IDs(), "jobs-init-1", "jobs-app-1")
	})
	s.Run("down", "-v")
	s.Step("a failing service ends up --wait with its output and a non-zero exit code", func() {
		s.Compose(`
name: jobs
services:
  broken: {image: busybox, command: [sh, -c, "echo out of luck; exit 3"]}
  app: {image: busybox, command: [sleep, "1000"], stop_signal: SIGKILL, depends_on: {broken: {condition: service_completed_successfully}}}
`)
		s.Refused([]string{"up", "-d", "--wait"}, "service broken", "3", "out of luck")
	})
	s.Run("down", "-v")
	s.Clean()
}
