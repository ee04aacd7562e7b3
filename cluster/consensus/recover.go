package consensus

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Recover makes this node the only voter of the log in cfg.Dir, when a majority
// of the managers is lost for good. The daemon must not run. Everything that is
// in this node's log is kept, also what no majority had yet. The other managers
// must not come back with their old data.
func Recover(cfg Config) error {
	cfg = cfg.withDefaults()
	var f files
	err := f.open(cfg)
	if err == nil {
		err = f.recover(cfg)
	}
	if err := errors.Join(err, f.close()); err != nil {
		return fmt.Errorf("recover cluster state in %s: %w", cfg.Dir, err)
	}
	return nil
}

func (f *files) recover(cfg Config) error {
	m := &fsm{store: cfg.Store, mark: f.mark}
	if err := f.verify(m); err != nil {
		return err
	}
	m.loaded = 0 // raft loads all of it again, from the snapshot on
	l := &Log{cfg: cfg}
	_, trans := raft.NewInmemTransport(raft.ServerAddress(cfg.ID))
	return raft.RecoverCluster(l.raftConfig(), m, f.guard, f.guard, f.snaps, trans, onlyVoter(cfg.ID))
}
