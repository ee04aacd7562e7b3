package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// logRequest says which output to print.
type logRequest struct {
	stack        string
	services     []string // empty: all
	follow       bool
	untilStopped bool // with follow: end when nothing runs any more
	tail         string
	since, until string
	timestamps   bool
	noPrefix     bool
	noColor      bool
}

func logsCmd(a *app) *cobra.Command {
	var r logRequest
	c := &cobra.Command{
		Use: "logs [SERVICE...]", Short: "Print the output of services",
		Long: `Print the output of services on all nodes, in the order of its times. A node that does not answer is
left out: a line on standard error says so, and the exit code stays 0. With --follow, a container
that is replaced on another node is followed there.`,
		Example: `  dhow logs                      everything that was printed
  dhow logs -f --tail 20 web     the last lines of web, and what comes
  dhow logs --since 10m`,
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, name, services, err := a.target(cmd.Context(), args)
			if err != nil {
				return err
			}
			r.stack, r.services = name, services
			return a.followLogs(cmd.Context(), c, r)
		},
	}
	fl := c.Flags()
	fl.BoolVarP(&r.follow, "follow", "f", false, "go on with what comes, also of containers that start later")
	fl.StringVarP(&r.tail, "tail", "n", "all", "number of last lines of each container, or all")
	fl.StringVar(&r.since, "since", "", "from this time on: 2026-01-02T15:04:05Z, or 10m ago")
	fl.StringVar(&r.until, "until", "", "up to this time")
	fl.BoolVarP(&r.timestamps, "timestamps", "t", false, "print the time of each line")
	fl.BoolVar(&r.noPrefix, "no-log-prefix", false, "print no names of containers")
	fl.BoolVar(&r.noColor, "no-color", false, "print no colours")
	return c
}

func (r logRequest) options(now time.Time) (runtime.LogOptions, error) {
	o := runtime.LogOptions{Stdout: true, Stderr: true, Follow: r.follow, Tail: -1}
	var err error
	if r.tail != "" && r.tail != "all" {
		if o.Tail, err = strconv.Atoi(r.tail); err != nil || o.Tail < 0 {
			return o, usagef("--tail %s: use a number or all", r.tail)
		}
	}
	if o.Since, err = parseTime(r.since, now); err != nil {
		return o, usagef("--since %s: %w", r.since, err)
	}
	if o.Until, err = parseTime(r.until, now); err != nil {
		return o, usagef("--until %s: %w", r.until, err)
	}
	return o, nil
}

// parseTime takes a moment, seconds since 1970, or a duration before now; "" is the zero time.
func parseTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	if sec, err := strconv.ParseFloat(s, 64); err == nil {
		return time.Unix(0, int64(sec*1e9)), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New("use a time such as 2026-01-02T15:04:05Z or a duration such as 10m")
}

// followLogs prints the output of a stack's containers. With follow it picks up containers that start later.
func (a *app) followLogs(ctx context.Context, c *client.Client, r logRequest) error {
	opt, err := r.options(time.Now())
	if err != nil {
		return err
	}
	list, err := a.containers(ctx, c, r.stack, r.services, true)
	if err != nil {
		return err
	}
	p := &prefixer{host: a.hostOf, out: a.out, plain: r.noPrefix, colour: a.fancy(a.out) && !r.noColor, colours: map[string]int{}}
	if !r.follow {
		for _, ct := range list {
			p.add(ct)
		}
		return a.pastLogs(ctx, c, list, opt, r.timestamps, p)
	}
	return a.follow(ctx, c, r, list, opt, p)
}

// settled says whether no task of the stack will run by itself.
func settled(st api.StackStatus) bool {
	for _, t := range st.Tasks {
		if t.Desired == stack.DesiredRun && t.Status.State < stack.TaskCompleted {
			return false
		}
	}
	return true
}

// shortName is the container's name without its stack: "web-1".
func shortName(ct container.Summary) string {
	return strings.TrimPrefix(containerName(ct), ct.Labels[labelProject]+"-")
}

// prefixer writes whole lines of several containers, each with its name.
type prefixer struct {
	plain, colour bool
	host          func(id string) string // of a container; nil: not told

	mu      sync.Mutex // guards what follows
	out     io.Writer
	width   int
	colours map[string]int    // by service, in the order of their first container
	hosts   map[string]string // by short name: where the first container of that name is
	twice   map[string]bool   // short names of containers on several nodes
}

// nameLocked is what stands before a container's lines: where several nodes
// have had one of its name, with its node.
func (p *prefixer) nameLocked(ct container.Summary) string {
	name := shortName(ct)
	if p.twice[name] {
		return name + "@" + p.host(ct.ID)
	}
	return name
}

// add makes room for a container's name and gives its service a colour.
func (p *prefixer) add(ct container.Summary) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.host != nil {
		if p.hosts == nil {
			p.hosts, p.twice = map[string]string{}, map[string]bool{}
		}
		name, host := shortName(ct), p.host(ct.ID)
		if at, known := p.hosts[name]; !known {
			p.hosts[name] = host
		} else if at != host {
			p.twice[name] = true
			p.width = max(p.width, len(name)+1+len(at))
		}
	}
	p.width = max(p.width, len(p.nameLocked(ct)))
	service := ct.Labels[labelService]
	if _, ok := p.colours[service]; !ok {
		p.colours[service] = palette[len(p.colours)%len(palette)]
	}
}

// palette are colours that are readable on dark and on light terminals.
var palette = []int{36, 33, 32, 35, 34, 96, 93, 92, 95, 94}

func (p *prefixer) print(ct container.Summary, line []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.plain {
		_, err := p.out.Write(line)
		return err
	}
	prefix := fmt.Sprintf("%-*s  | ", p.width, p.nameLocked(ct))
	if p.colour {
		prefix = fmt.Sprintf("\x1b[%dm%s\x1b[0m", p.colours[ct.Labels[labelService]], prefix)
	}
	_, err := p.out.Write(append([]byte(prefix), line...))
	return err
}

// lineWriter hands on whole lines. Two streams of one container may share it.
type lineWriter struct {
	line func([]byte) error
	mu   sync.Mutex
	rest []byte // guarded by mu: a line without its end
}

// longLine bounds what is held back while the end of a line is missing.
const longLine = 1 << 20

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		if err := w.line(append(w.rest, p[:i+1]...)); err != nil {
			return 0, err
		}
		w.rest, p = w.rest[:0], p[i+1:]
	}
	w.rest = append(w.rest, p...)
	if len(w.rest) > longLine {
		return n, w.flushLocked()
	}
	return n, nil
}

func (w *lineWriter) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.flushLocked()
}

func (w *lineWriter) flushLocked() error {
	if len(w.rest) == 0 {
		return nil
	}
	line := append(w.rest, '\n')
	w.rest = nil
	return w.line(line)
}

// containerLogs calls each with the last lines of one container.
func (a *app) containerLogs(ctx context.Context, c *client.Client, id string, tail int, each func([]byte)) error {
	w := &lineWriter{line: func(b []byte) error { each(b); return nil }}
	err := c.Logs(ctx, id, runtime.LogOptions{Stdout: true, Stderr: true, Tail: tail}, false, w, w)
	return errors.Join(err, w.flush())
}
