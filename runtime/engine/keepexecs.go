package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dhow-project/dhow/runtime"
)

// execRecord is an exec on disk, so that the next daemon can tell of it. The
// environment is not kept: nobody can ask for it, and secrets may be in it.
type execRecord struct {
	ID   string           `json:"id"`
	Spec runtime.ExecSpec `json:"spec"`
	Pid  int              `json:"pid,omitempty"`
	Code *int             `json:"code,omitempty"` // nil: it was running
}

const execPrefix = "exec-"

func (s *store) execPath(container, exec string) string {
	return filepath.Join(s.path(container), execPrefix+exec+".json")
}

// keep writes what is known of x. A failure costs its exit code after a
// restart of the daemon and nothing else, so it is only logged.
func (e *Engine) keep(x *execs) {
	x.mu.Lock()
	rec := execRecord{ID: x.id, Spec: x.spec, Pid: x.pid, Code: x.code}
	x.mu.Unlock()
	rec.Spec.Env = nil
	err := writeJSON(e.store.execPath(x.c.id, x.id), rec)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // the container was removed meanwhile
		e.log.Warn("exec not recorded", "container", x.c.name(), "exec", short(x.id), "err", err)
	}
}

// restoreExecs brings back the execs of a container. r is its run, nil when it
// does not run: then what was running has been killed with it.
func (e *Engine) restoreExecs(c *container, r *run) {
	entries, err := os.ReadDir(e.store.path(c.id))
	if err != nil {
		return
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), execPrefix) {
			continue
		}
		path := filepath.Join(e.store.path(c.id), entry.Name())
		var rec execRecord
		if err := readJSON(path, &rec); err != nil || rec.ID == "" { // torn by a crash
			_ = os.Remove(path)
			continue
		}
		x := &execs{c: c, id: rec.ID, spec: rec.Spec, pid: rec.Pid, started: true, done: make(chan struct{})}
		e.mu.Lock()
		e.execs[x.id] = x
		e.mu.Unlock()
		c.mu.Lock()
		c.execs[x.id] = x
		c.mu.Unlock()
		switch {
		case rec.Code != nil:
			x.ended(*rec.Code)
		case r == nil || !e.rejoin(x, r):
			x.ended(137)
		}
	}
}

// rejoin goes on waiting for x on a new connection; false when the shim does
// not know x any more.
func (e *Engine) rejoin(x *execs, r *run) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := r.client.Rejoin(ctx, x.id)
	if err != nil {
		e.log.Debug("exec not found again", "container", x.c.name(), "exec", short(x.id), "err", err)
		return false
	}
	x.mu.Lock()
	x.session = s
	x.mu.Unlock()
	e.spawn(func() { e.watchExec(x, r, s) })
	return true
}
