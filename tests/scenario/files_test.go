package scenario

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/tests/netlab"
)

const filesFile = `
name: files
services:
  reader:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    user: "1000:2000"
    secrets:
      - plain                          # short: /run/secrets/plain
      - {source: env, target: token, uid: "1000", gid: "2000", mode: 0400}
      - {source: plain, target: /etc/app/key, mode: 0440, gid: "2000"}
    configs:
      - conf                           # short: /conf
      - {source: inline, target: /etc/app/inline.conf, uid: "1000", mode: 0640}
      - {source: fromenv, target: /etc/app/env.conf}
  other:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    configs: [conf]
  stranger:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
secrets:
  plain: {file: ./secret.txt}
  env: {environment: TOKEN}
configs:
  conf: {file: ./app.conf}
  fromenv: {environment: MOTTO}
  inline:
    content: |
      motto = ${MOTTO}
      price = $$5
`

// The needles stand nowhere else, so that a search of the disk finds only them.
const (
	fileSecret = "needle-in-a-file-4711"
	envSecret  = "needle-in-the-environment-4712"
)

// firstStatus is what a watch of the stack tells first.
func firstStatus(t *testing.T, s *S) (text string) {
	t.Helper()
	c, err := client.Dial(s.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.WatchStack(context.Background(), "files", func(st api.StackStatus) error {
		b, err := json.Marshal(st)
		text = string(b)
		return errors.Join(err, fs.SkipAll)
	})
	if !errors.Is(err, fs.SkipAll) {
		t.Fatal(err)
	}
	return text
}

func TestSecretsAndConfigs(t *testing.T) {
	s := Scenario(t, "secrets and configs come from files, the environment and the stack file, with owner and mode, in memory, and an edit replaces their users only", "busybox:latest")
	env := []string{"TOKEN=" + envSecret, "MOTTO=full sail"}
	run := func(args ...string) netlab.Result {
		s.Helper()
		r := s.TryWith(netlab.Input{Dir: s.Dir, Env: env}, args...)
		if r.Code != 0 {
			t.Fatal(r.Err())
		}
		return r
	}
	sees := func(service, script, want string) {
		s.Helper()
		if out := strings.TrimSpace(run("exec", "-T", service, "sh", "-c", script).Stdout); out != want {
			t.Errorf("%s: %s: %q, want %q", service, script, out, want)
		}
	}
	s.Write("secret.txt", fileSecret)
	s.Write("app.conf", "one\n")
	s.Compose(filesFile)
	run("up", "-d", "--wait")
	all := []string{"files-reader-1", "files-other-1", "files-stranger-1"}

	s.Step("content, owner and mode", func() {
		sees("reader", "cat /run/secrets/plain", fileSecret)
		sees("reader", "cat /run/secrets/token", envSecret)
		sees("reader", "cat /etc/app/key", fileSecret)
		sees("reader", "cat /conf", "one")
		sees("reader", "cat /etc/app/inline.conf", "motto = full sail\nprice = $5")
		sees("reader", "cat /etc/app/env.conf", "full sail")
		sees("reader", "stat -c '%u %g %a' /run/secrets/plain /run/secrets/token /etc/app/key /conf /etc/app/inline.conf",
			"0 0 444\n1000 2000 400\n0 2000 440\n0 0 444\n1000 0 640")
		sees("reader", "(echo x > /run/secrets/plain) 2>/dev/null || echo no", "no")
		sees("stranger", "ls /run/secrets /conf 2>/dev/null | wc -l", "0")
	})
	s.Step("secrets are on tmpfs", func() {
		for _, path := range []string{"/run/secrets/plain", "/run/secrets/token", "/etc/app/key"} {
			sees("reader", "stat -f -c %T "+path, "tmpfs")
		}
	})
	s.Step("secrets are not in what the API, plan and the log tell", func() {
		texts := map[string]string{"daemon log": read(t, s.LogFile), "plan": run("plan", "--force-recreate", "--format", "json").Stdout, "watch": firstStatus(t, s)}
		for _, path := range []string{"/containers/files-reader-1/json", "/containers/json", "/dhow/v1/stacks", "/dhow/v1/stacks/files"} {
			var answer []byte
			s.API("GET", path, &answer)
			texts[path] = string(answer)
		}
		for where, text := range texts {
			if text == "" {
				t.Errorf("%s is empty", where)
			}
			for _, content := range []string{fileSecret, envSecret} {
				if strings.Contains(text, content) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(content))) {
					t.Errorf("%s tells a secret", where)
				}
			}
		}
	})
	s.Step("neither the container's files nor the state have them on disk", func() {
		for _, hit := range grep(t, s.DataDir, fileSecret, envSecret) {
			t.Errorf("a secret is in %s", hit)
		}
	})
	edit := func(what, kept string, f func()) {
		s.Step(what, func() {
			before := s.IDs()
			f()
			run("up", "-d", "--wait")
			s.Same(before, s.IDs(), strings.Fields(kept)...)
		})
	}
	edit("nothing", strings.Join(all, " "), func() {})
	edit("a secret's file", "files-other-1 files-stranger-1", func() { s.Write("secret.txt", fileSecret+"b") })
	edit("a secret's variable", "files-other-1 files-stranger-1", func() { env[0] += "b" })
	edit("a config that two use", "files-stranger-1", func() { s.Write("app.conf", "two\n") })
	edit("a variable in inline content", "files-other-1 files-stranger-1", func() { env[1] = "MOTTO=half sail" })
	edit("a mode", "files-other-1 files-stranger-1", func() { s.Compose(strings.Replace(filesFile, "mode: 0400", "mode: 0440", 1)) })
	s.Step("the new content is there", func() {
		sees("reader", "cat /run/secrets/plain /run/secrets/token", fileSecret+"b"+envSecret+"b")
		sees("other", "cat /conf", "two")
		sees("reader", "head -1 /etc/app/inline.conf", "motto = half sail")
	})
	s.Step("they are there again after a restart of container and daemon", func() {
		s.Kill()
		s.Start()
		run("restart", "reader")
		sees("reader", "cat /run/secrets/plain", fileSecret+"b")
		sees("reader", "stat -c '%u %g %a' /run/secrets/token", "1000 2000 440")
	})
	s.Step("what is missing is refused", func() {
		env[0] = "OTHER=x"
		if r := s.TryWith(netlab.Input{Dir: s.Dir, Env: env}, "up", "-d"); r.Code == 0 || !strings.Contains(r.Stderr, "TOKEN") || !strings.Contains(r.Stderr, "compose.yaml:") {
			t.Errorf("without TOKEN: %v", r)
		}
		if err := os.Remove(filepath.Join(s.Dir, "app.conf")); err != nil {
			t.Fatal(err)
		}
		env[0] = "TOKEN=x"
		if r := s.TryWith(netlab.Input{Dir: s.Dir, Env: env}, "up", "-d"); r.Code == 0 || !strings.Contains(r.Stderr, "app.conf") || !strings.Contains(r.Stderr, "compose.yaml:") {
			t.Errorf("without app.conf: %v", r)
		}
	})
	s.Run("-p", "files", "down", "-v")
	s.Clean()
	if left := grep(t, s.RunDir, fileSecret, envSecret); len(left) > 0 {
		t.Errorf("secrets left in %v", left)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// grep lists the files under dir that hold one of the texts.
func grep(t *testing.T, dir string, texts ...string) []string {
	t.Helper()
	hits, err := netlab.Grep(dir, texts...)
	if err != nil {
		t.Fatal(err)
	}
	return hits
}
