package progress

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestPlainLinesAtEveryChangeOfStatus(t *testing.T) {
	var b bytes.Buffer
	d := New(&b, Options{})
	d.Set("web", Item{Name: "web", Status: "pending", Detail: "waits for db"})
	d.Set("web", Item{Name: "web", Status: "pending", Detail: "still waits for db"})
	d.Set("db", Item{Name: "db", Status: "running 1/1", State: Done})
	d.Set("web", Item{Name: "web", Status: "exit code 1", State: Failed})
	d.Close()
	want := "... web: pending (waits for db)\nok  db: running 1/1\nerr web: exit code 1\n"
	if b.String() != want {
		t.Errorf("got:\n%swant:\n%s", b.String(), want)
	}
}

var escape = regexp.MustCompile("\x1b\\[[0-9?]*[a-zA-Z]")

func TestTerminalLinesNeverWrap(t *testing.T) {
	now := time.Unix(0, 0)
	for _, width := range []int{20, 40, 80, 200} {
		var b bytes.Buffer
		d := New(&b, Options{TTY: true, Width: func() int { return width }, Now: func() time.Time { return now }})
		d.Set("web", Item{Name: strings.Repeat("w", 15), Status: "starting", Detail: strings.Repeat("detail ", 40)})
		d.Set("db", Item{Name: "db", Status: "running", State: Done})
		d.Close()
		for _, line := range strings.Split(escape.ReplaceAllString(b.String(), ""), "\n") {
			if n := len([]rune(line)); n >= width {
				t.Errorf("width %d: %d characters: %q", width, n, line)
			}
		}
		if !strings.HasSuffix(b.String(), "\x1b[?25h") {
			t.Error("the cursor stays hidden")
		}
	}
}
