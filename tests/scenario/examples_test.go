package scenario

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/tests/netlab"
)

// TestExamples runs the stacks of examples/ as they are, beside each other on one host.
func TestExamples(t *testing.T) {
	s := Scenario(t, "the example stacks come up with one command, serve, keep their data over down and up, and leave nothing after down -v",
		"nginx:latest", "redis:7", "postgres:15", "python:3", "busybox:latest")
	examples := []example{
		{"static", staticServes, staticServes},
		{"guestbook", signGuestbook, readGuestbook},
		{"voting", vote, readVotes},
		{"spread", func(s *S) { s.Helper(); s.page("http://127.0.0.1:8090/", "first edition") }, func(s *S) { s.Helper(); s.page("http://127.0.0.1:8090/", "first edition") }},
	}
	for _, e := range examples {
		s.Step(e.name+": up", func() { s.example(e.name); s.Run("up", "-d", "--wait") })
		s.Step(e.name+": write", func() { e.write(s) })
	}
	for _, e := range examples {
		s.Step(e.name+": down and up again keeps the data", func() {
			s.example(e.name)
			s.Run("down")
			s.Run("up", "-d", "--wait")
			e.read(s)
		})
	}
	for _, e := range examples {
		s.Step(e.name+": down -v", func() {
			s.example(e.name)
			s.Run("down", "-v")
		})
	}
	s.Clean()
	for _, list := range [][]string{{"volume", "ls", "-q"}, {"network", "ls", "-q", "--filter", "label=com.docker.compose.project"}, {"ls", "-q"}} {
		if out := strings.TrimSpace(s.Run(list...)); out != "" {
			t.Errorf("dhow %s after down -v: %q", strings.Join(list, " "), out)
		}
	}
}

type example struct {
	name        string
	write, read func(*S)
}

// example makes a folder of examples/ the stack's directory.
func (s *S) example(name string) { s.Dir = filepath.Join(netlab.Root(), "examples", name) }

// page fetches a page, which must have these words.
func (s *S) page(url string, words ...string) {
	s.Helper()
	r := s.Get(url)
	for _, w := range words {
		if !strings.Contains(r.Stdout, w) {
			s.Errorf("%s lacks %q: %s%s", url, w, r.Stdout, r.Stderr)
		}
	}
}

// post sends a form, which must be accepted.
func (s *S) post(url string, fields ...string) {
	s.Helper()
	args := []string{"-sS", "--fail", "--max-time", "5"}
	for _, f := range fields {
		args = append(args, "--data-urlencode", f)
	}
	if r := s.Exec("curl", append(args, url)...); r.Code != 0 {
		s.Error(r.Err())
	}
}

func staticServes(s *S) {
	s.Helper()
	s.page("http://127.0.0.1:8080/", "Served by dhow")
	if r := s.Get("http://" + s.Addr + ":8080/"); r.Code == 0 {
		s.Errorf("published on 127.0.0.1 only, and yet %s answers", s.Addr)
	}
}

const guestbook = "http://127.0.0.1:8088/"

func signGuestbook(s *S) {
	s.page(guestbook, "Welcome aboard.", "Visits: 1<")
	s.post(guestbook, "name=Ada", "message=fair winds & following seas")
	s.page(guestbook, "Ada", "fair winds &amp; following seas", "Visits: 2<")
	s.page("http://"+s.Addr+":8088/", "Ada")
	if out := s.Run("run", "--rm", "-T", "dump"); !strings.Contains(out, "fair winds & following seas") {
		s.Errorf("the dump lacks the entry: %s", out)
	}
}

func readGuestbook(s *S) {
	s.page(guestbook, "Ada", "fair winds", "Welcome aboard.", "Visits: 4<")
}

func vote(s *S) {
	s.post("http://127.0.0.1:8081/", "vote=cats")
	s.post("http://127.0.0.1:8081/", "vote=cats")
	s.post("http://127.0.0.1:8081/", "vote=dogs")
	s.counted()
}

func readVotes(s *S) { s.counted() }

// counted waits until the worker has counted the votes.
func (s *S) counted() {
	s.Until("three votes are counted", func() error {
		if out := strings.TrimSpace(s.Get("http://127.0.0.1:8082/").Stdout); out != `{"cats":2,"dogs":1}` {
			return fmt.Errorf("result: %s", out)
		}
		return nil
	})
}
