package progress

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// State of an item.
type State int

// The states.
const (
	Working State = iota
	Done
	Failed
	Warning
)

// Item is one line.
type Item struct {
	Name   string // "web", "redis:7"
	Status string // "running 2/3"
	Detail string // what it waits for; cut to the terminal's width
	State  State
}

// Display draws items in the order of their first Set.
type Display struct {
	w     io.Writer
	tty   bool
	width func() int
	now   func() time.Time

	done chan struct{} // closed by Close; nil without a terminal
	idle chan struct{} // closed when the drawing goroutine has ended

	mu    sync.Mutex // guards what follows
	items []*entry
	byKey map[string]*entry
	drawn int // lines on the screen
	dirty bool
}

type entry struct {
	Item
	since time.Time // of the first Working
	took  time.Duration
}

// Options of New.
type Options struct {
	TTY   bool
	Width func() int       // columns of the terminal
	Now   func() time.Time // nil: time.Now
}

// New starts a display on w. Close ends it.
func New(w io.Writer, o Options) *Display {
	d := &Display{w: w, tty: o.TTY, width: o.Width, now: o.Now, byKey: map[string]*entry{}}
	if d.now == nil {
		d.now = time.Now
	}
	if d.width == nil {
		d.width = func() int { return 100 }
	}
	if d.tty {
		d.done, d.idle = make(chan struct{}), make(chan struct{})
		go d.draw()
	}
	return d
}

// Set adds or changes the item of key.
func (d *Display) Set(key string, it Item) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.byKey[key]
	if !ok {
		e = &entry{since: d.now()}
		d.byKey[key] = e
		d.items = append(d.items, e)
	}
	if ok && e.Item == it {
		return
	}
	plain := !ok || e.Status != it.Status || e.State != it.State || e.Detail == "" && it.Detail != ""
	if e.State != Working && it.State == Working {
		e.since = d.now()
	}
	e.Item = it
	e.took = d.now().Sub(e.since)
	d.dirty = true
	if !d.tty && plain {
		detail := it.Detail
		if detail != "" {
			detail = " (" + detail + ")"
		}
		fmt.Fprintf(d.w, "%s %s: %s%s\n", mark(it.State), it.Name, it.Status, detail)
	}
}

// Close draws the last state and returns.
func (d *Display) Close() {
	if !d.tty {
		return
	}
	close(d.done)
	<-d.idle
}

const frame = 100 * time.Millisecond

func (d *Display) draw() {
	defer close(d.idle)
	fmt.Fprint(d.w, "\x1b[?25l") // hide the cursor
	defer func() { fmt.Fprint(d.w, "\x1b[?25h") }()
	t := time.NewTicker(frame)
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-t.C:
			d.render(n)
		case <-d.done:
			d.render(n)
			return
		}
	}
}

func (d *Display) render(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.items) == 0 {
		return
	}
	width := max(d.width(), 20)
	name, status := 0, 0
	for _, e := range d.items {
		name = max(name, utf8.RuneCountInString(e.Name))
		status = max(status, utf8.RuneCountInString(e.Status))
	}
	var b strings.Builder
	if d.drawn > 0 {
		fmt.Fprintf(&b, "\r\x1b[%dA", d.drawn) // the echo of a Ctrl-C may have moved the cursor
	}
	for _, e := range d.items {
		if e.State == Working {
			e.took = d.now().Sub(e.since)
		}
		left := fmt.Sprintf(" %s %-*s  %-*s", glyph(e.State, n), name, e.Name, status, e.Status)
		right := fmt.Sprintf("%5.1fs ", e.took.Seconds())
		room := width - 1 - utf8.RuneCountInString(left) - utf8.RuneCountInString(right) - 2
		detail := ""
		if room > 3 && e.Detail != "" {
			detail = "  " + cut(e.Detail, room)
		}
		pad := width - 1 - utf8.RuneCountInString(left+detail+right)
		if pad < 1 { // a very narrow terminal: no line may wrap, or the block would drift
			left, right, pad = cut(left, width-1), "", 0
			detail = ""
		}
		fmt.Fprintf(&b, "\x1b[2K%s%s%s%s%s%s\n", colour(e.State), left, "\x1b[0m", "\x1b[2m"+detail+"\x1b[0m", strings.Repeat(" ", pad), right)
	}
	d.drawn, d.dirty = len(d.items), false
	fmt.Fprint(d.w, b.String())
}

func mark(s State) string { return [...]string{"...", "ok ", "err", "!  "}[s] }

func glyph(s State, n int) string {
	switch s {
	case Done:
		return "✔"
	case Failed:
		return "✘"
	case Warning:
		return "!"
	}
	return string([]rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")[n%10])
}

func colour(s State) string { return [...]string{"", "\x1b[32m", "\x1b[31m", "\x1b[33m"}[s] }

func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:max(n-1, 0)]) + "…"
}
