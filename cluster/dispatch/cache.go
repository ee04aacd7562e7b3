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
	"time"
)

// cache keeps a mirror on disk, so that a node which starts while no manager
// can be reached runs what it ran before. Secrets are not written: a
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
	}
}

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

// run writes the file when the mirror has changed, not too often.
func (c *cache) run(ctx context.Context) {
	if c.path == "" {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.dirty:
		}
		start := time.Now()
		if err := c.write(); err != nil {
			c.log.Warn("keep the tasks for the next start", "error", err)
		}
		select {
		case <-ctx.Done():
			if err := c.write(); err != nil {
				c.log.Warn("keep the tasks for the next start", "error", err)
			}
			return
		case <-time.After(min(max(20*time.Since(start), writeOften), writeRare)):
		}
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
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
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
