package scenario

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

// times is when a container last started and ended, by the engine's clock.
type times struct{ StartedAt, FinishedAt time.Time }

func (s *S) times(container string) times {
	s.Helper()
	in := s.inspect(container)
	return times{in.State.StartedAt, in.State.FinishedAt}
}

// The services take 300 ms to end, so that the order of ends is no accident.
const dependFile = `
name: deps
x-slow: &slow
  image: busybox
  command: [sh, -c, "trap 'usleep 300000; exit 0' TERM; echo up $$LEVEL; while :; do usleep 20000; done"]
services:
  db:
    <<: *slow
    environment: {LEVEL: "1"}
    healthcheck: # healthy after two seconds
      test: [CMD, sh, -c, "[ $$(cut -d. -f1 /proc/uptime) -ge $$(($$(cut -d' ' -f22 /proc/1/stat) / 100 + 2)) ]"]
      interval: 1s
      start_interval: 100ms
      start_period: 10s
  migrate:
    image: busybox
    command: [sh, -c, "usleep 700000; echo migrated"]
    depends_on: {db: {condition: service_healthy}}
  cache:
    <<: *slow
  app:
    <<: *slow
    depends_on:
      migrate: {condition: service_completed_successfully}
      cache: {condition: service_started}
      db: {condition: service_healthy, restart: true}
      metrics: {condition: service_started, required: false}
  web:
    <<: *slow
    depends_on: [app]
  metrics:
    <<: *slow
    profiles: [metrics]
`

func TestDependencies(t *testing.T) {
	s := Scenario(t, "services start after what they depend on is started, healthy or completed, and stop before it", "busybox:latest")
	s.Compose(dependFile)
	s.Step("up", func() {
		s.Run("up", "-d", "--wait")
		db, migrate, cache, app, web := s.times("deps-db-1"), s.times("deps-migrate-1"), s.times("deps-cache-1"), s.times("deps-app-1"), s.times("deps-web-1")
		if d := migrate.StartedAt.Sub(db.StartedAt); d < time.Second {
			t.Errorf("migrate started %s after db, before it was healthy", d)
		}
		if app.StartedAt.Before(migrate.FinishedAt) {
			t.Errorf("app started at %s, before migrate had completed at %s", app.StartedAt, migrate.FinishedAt)
		}
		if app.StartedAt.Before(cache.StartedAt) || web.StartedAt.Before(app.StartedAt) {
			t.Errorf("cache %s, app %s, web %s", cache.StartedAt, app.StartedAt, web.StartedAt)
		}
		if cache.StartedAt.After(migrate.StartedAt) {
			t.Errorf("cache depends on nothing and yet waited %s, as long as migrate for db", cache.StartedAt.Sub(db.StartedAt))
		}
		if _, ok := s.PS()["deps-metrics-1"]; ok {
			t.Error("a service whose profile is off was started")
		}
	})
	s.Step("stop and start keep the order", func() {
		s.Run("stop")
		db, app, web := s.times("deps-db-1"), s.times("deps-app-1"), s.times("deps-web-1")
		if d := app.FinishedAt.Sub(web.FinishedAt); d < 250*time.Millisecond {
			t.Errorf("app was stopped before web had ended (%s)", d)
		}
		if d := db.FinishedAt.Sub(app.FinishedAt); d < 250*time.Millisecond {
			t.Errorf("db was stopped before app had ended (%s)", d)
		}
		s.Run("start")
		s.Run("up", "-d", "--wait")
		if db, app := s.times("deps-db-1"), s.times("deps-app-1"); app.StartedAt.Sub(db.StartedAt) < time.Second {
			t.Errorf("app started %s after db, before it was healthy", app.StartedAt.Sub(db.StartedAt))
		}
	})
	s.Step("a dependency that is replaced restarts who asked for it and no other", func() {
		ids, web, cache := s.IDs(), s.times("deps-web-1"), s.times("deps-cache-1")
		s.Compose(strings.Replace(dependFile, `LEVEL: "1"`, `LEVEL: "2"`, 1))
		s.Run("up", "-d", "--wait")
		s.Same(ids, s.IDs(), "deps-app-1", "deps-web-1", "deps-cache-1", "deps-migrate-1")
		if db, app := s.times("deps-db-1"), s.times("deps-app-1"); app.StartedAt.Sub(db.StartedAt) < time.Second {
			t.Errorf("app was not restarted after db was healthy: db %s, app %s", db.StartedAt, app.StartedAt)
		}
		if s.times("deps-web-1") != web || s.times("deps-cache-1") != cache {
			t.Error("web or cache was restarted")
		}
	})
	s.Step("dhow restart of the dependency restarts them too", func() {
		app, cache := s.times("deps-app-1"), s.times("deps-cache-1")
		s.Run("restart", "db")
		s.Run("up", "-d", "--wait")
		if after := s.times("deps-app-1"); !after.StartedAt.After(app.StartedAt) {
			t.Error("app was not restarted")
		}
		if s.times("deps-cache-1") != cache {
			t.Error("cache was restarted")
		}
	})
	s.Step("down goes from the top", func() {
		s.Run("down")
		order := s.ends("deps")
		at := func(name string) time.Time { return order["deps-"+name+"-1"] }
		if !at("app").After(at("web").Add(250*time.Millisecond)) || !at("db").After(at("app").Add(250*time.Millisecond)) {
			t.Errorf("ends: web %s, app %s, db %s", at("web"), at("app"), at("db"))
		}
	})
	s.Clean()
}

// ends is when each container of the stack ended last, by the events.
func (s *S) ends(stack string) map[string]time.Time {
	s.Helper()
	filters := `{"event":["die"],"label":["com.docker.compose.project=` + stack + `"]}`
	now := time.Now()
	var lines []byte
	s.API("GET", fmt.Sprintf("/events?since=%d&until=%d.%09d&filters=%s", now.Unix()-120, now.Unix(), now.Nanosecond(), url.QueryEscape(filters)), &lines)
	out := map[string]time.Time{}
	for _, line := range strings.Split(strings.TrimSpace(string(lines)), "\n") {
		var e struct {
			TimeNano int64 `json:"timeNano"`
			Actor    struct{ Attributes map[string]string }
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			s.Fatalf("event %q: %v", line, err)
		}
		out[e.Actor.Attributes["name"]] = time.Unix(0, e.TimeNano)
	}
	return out
}

func TestDependenciesThatFail(t *testing.T) {
	s := Scenario(t, "a dependency that fails holds its dependents back, and up says which and why; one that is not required does not", "busybox:latest")
	file := func(condition, extra, dep string) {
		s.Compose("name: deps\nservices:\n" +
			"  app: {image: busybox, command: [sleep, '1000'], stop_signal: SIGKILL, depends_on: {dep: {condition: " + condition + extra + "}}}\n" +
			"  dep: {image: busybox, stop_signal: SIGKILL, " + dep + "}\n")
	}
	const (
		broken = "command: [sh, -c, 'echo no such table; exit 3']"
		sick   = "command: [sleep, '1000'], healthcheck: {test: 'echo out of order; false', interval: 100ms, retries: 2}"
		slow   = "command: [sleep, '1000'], healthcheck: {test: 'false', interval: 1s, start_period: 1m}"
	)
	idle := func() {
		s.Helper()
		if c := s.PS()["deps-app-1"]; c.State == "running" {
			t.Errorf("app runs: %+v", c)
		}
		s.Run("down")
	}
	s.Step("a one-shot that fails", func() {
		file("service_completed_successfully", "", broken)
		s.Refused([]string{"up", "-d"}, "service dep", "exit code 3", "no such table")
		s.Refused([]string{"up", "-d", "--wait"}, "service dep", "exit code 3", "no such table")
		idle()
	})
	s.Step("an unhealthy one", func() {
		file("service_healthy", "", sick)
		s.Refused([]string{"up", "-d", "--wait"}, "service dep", "unhealthy", "out of order")
		idle()
	})
	s.Step("one that takes too long", func() {
		file("service_healthy", "", slow)
		s.Refused([]string{"up", "-d", "--wait", "--wait-timeout", "2"}, "app", "waits for dep to be healthy")
		idle()
	})
	s.Step("one that ends while it should be healthy", func() {
		file("service_healthy", "", "command: ['true'], healthcheck: {test: 'true', interval: 10s}")
		s.Refused([]string{"up", "-d", "--wait"}, "depends on dep to be healthy", "ended")
		idle()
	})
	s.Step("health asked of a service without a check is refused before anything runs", func() {
		file("service_healthy", "", "command: [sleep, '1000']")
		s.Refused([]string{"up", "-d", "--wait"}, "dep", "no health check")
		idle()
	})
	s.Step("not required: the dependent starts all the same", func() {
		for _, dep := range []string{broken, sick} {
			file("service_healthy", ", required: false", dep)
			s.TryIn("up", "-d")
			s.Until("app runs", func() error {
				if c := s.PS()["deps-app-1"]; c.State != "running" {
					return leftError{c.State, c.Status}
				}
				return nil
			})
			s.Run("down")
		}
	})
	s.Step("repaired, the dependents start", func() {
		file("service_completed_successfully", "", broken)
		s.TryIn("up", "-d")
		file("service_completed_successfully", "", "command: ['true']")
		s.Run("up", "-d", "--wait")
		if c := s.PS()["deps-app-1"]; c.State != "running" {
			t.Errorf("app: %+v", c)
		}
	})
	s.Run("down")
	s.Clean()
}
