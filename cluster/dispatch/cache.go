package dispatch

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// cache keeps a mirror on disk, so that a node which starts while no manager
// can be reached runs what it ran before. Secrets and logins are not written: a
// container that exists needs none of them, and one that has to be made waits.
type cache struct {
	path    string // "": none
	cluster string
	node    string
	mirror  *mirror
	log     *slog.Logger
	dirty   chan struct{} // capacity 1
	written uint64        // version of the mirror on disk
}

// cached is the file: a digest of the rest in front, so that a torn one is known.
type cached struct {
	Format  int             `json:"format"`
	Cluster string          `json:"cluster"`
	Node    string          `json:"node"`
	Index   uint64          `json:"index"`
	Update  json.RawMessage `json:"update"`
	Sum     string          `json:"sum"` // of Update
}

const cacheFormat = 1

func newCache(path, cluster, node string, m *mirror, log *slog.Logger) *cache {
	return &cache{path: path, cluster: cluster, node: node, mirror: m, log: log, dirty: make(chan struct{}, 1)}
}

// load shows what the file has. A file that cannot be used is as good as none.
func (c *cache) load() {
	if c.path == "" {
		return
	}
	data, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = c.parse(data)
	}
	if err != nil {
		c.log.Warn("the tasks of the last run are not known until a manager answers", "file", c.path, "error", err)
		return
	}
	c.written = c.mirror.now()
}

// sweep removes what a process before this one left that was killed while it
// wrote. Nobody else writes the file: see run.
func (c *cache) sweep() {
	list, err := os.ReadDir(filepath.Dir(c.path))
	for _, f := range list {
		if strings.HasPrefix(f.Name(), unfinished(c.path)) {
			err = errors.Join(err, os.Remove(filepath.Join(filepath.Dir(c.path), f.Name())))
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("remove what an interrupted write left", "error", err)
	}
}

// unfinished is what the names begin with under which path is written.
func unfinished(path string) string { return "." + filepath.Base(path) + "." }

func (c *cache) parse(data []byte) error {
	var f cached
	if err := json.Unmarshal(data, &f); err != nil {
		return err
	}
	if f.Format != cacheFormat {
		return fmt.Errorf("format %d is not known", f.Format)
	}
	if f.Cluster != c.cluster || f.Node != c.node {
		return fmt.Errorf("it is of node %s in cluster %s", f.Node, f.Cluster)
	}
	if f.Sum != digest(f.Update) {
		return errors.New("it is damaged")
	}
	var u update
	if err := json.Unmarshal(f.Update, &u); err != nil {
		return err
	}
	return c.mirror.restore(&u)
}

func digest(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

// poke says that the mirror has changed.
func (c *cache) poke() {
	select {
	case c.dirty <- struct{}{}:
	default:
	}
}

// Between two writes of the file pass twenty times what one takes, within these
// bounds: a daemon that starts again knows what was so a moment before its end.
const (
	writeOften = 100 * time.Millisecond
	writeRare  = time.Second
)

// run writes the file when the mirror has changed, not too often, and before it ends.
func (c *cache) run(ctx context.Context) {
	if c.path == "" {
		return
	}
	c.sweep()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-c.dirty:
		}
		start := time.Now()
		c.keep()
		select {
		case <-ctx.Done():
		case <-time.After(min(max(20*time.Since(start), writeOften), writeRare)):
		}
	}
	c.keep()
}

func (c *cache) keep() {
	if err := c.write(); err != nil {
		c.log.Warn("keep the tasks for the next start", "error", err)
	}
}

// write replaces the file at once or not at all.
func (c *cache) write() error {
	u, version, ok := c.mirror.dump()
	if !ok || version == c.written {
		return nil
	}
	body, err := json.Marshal(u)
	if err != nil {
		return fmt.Errorf("encode tasks: %w", err)
	}
	data, err := json.Marshal(cached{cacheFormat, c.cluster, c.node, u.Index, body, digest(body)})
	if err != nil {
		return fmt.Errorf("encode tasks: %w", err)
	}
	if err := replace(c.path, data); err != nil {
		return err
	}
	c.written = version
	return nil
}

// replace writes a file that only root reads, so that at any moment the old or the new one is there.
func replace(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, unfinished(path)+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, derr := os.Open(dir)
	if derr != nil {
		return nil // the file is whole either way
	}
	defer d.Close()
	return d.Sync()
}
