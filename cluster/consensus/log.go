package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"

	"github.com/dhow-project/dhow/cluster/state"
)

// ErrNotLeader is wrapped when a command was given to a manager that does not lead.
var ErrNotLeader = errors.New("not the leader")

// Config of a Log.
type Config struct {
	Dir   string // made when missing
	ID    string // of this voter, the same at every start
	Store *state.Store
	Log   *slog.Logger

	// Transport to other voters; nil: in memory, for one voter alone.
	Transport raft.Transport

	SnapshotThreshold uint64 // commands between two snapshots; 0: 4096
	TrailingLogs      uint64 // commands kept behind a snapshot; 0: 1024
}

// Log is the replicated log of this voter.
type Log struct {
	cfg    Config
	raft   *raft.Raft
	wal    *wal.WAL
	meta   *metadb.BoltMetaDB // the log's own; its Close does not close it
	mark   *mark
	lock   *os.File
	leader chan bool // raft's notices of leadership
}

// bootTimeout bounds how long one voter takes to become leader; reached only
// when the disk does not answer.
const bootTimeout = 30 * time.Second

// segmentSize of the log's files, bytes. They are allocated in full, so small
// enough for a laptop; a command may be larger.
const segmentSize = 8 << 20

// Open opens the log in cfg.Dir, or makes a new one with this voter alone, and
// returns when the store holds all that was committed. A damaged log, a
// damaged snapshot and a missing directory are errors; nothing is repaired by
// leaving something out.
func Open(cfg Config) (*Log, error) {
	l, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("open cluster state in %s: %w", cfg.Dir, err)
	}
	return l, nil
}

func open(cfg Config) (_ *Log, err error) {
	if cfg.SnapshotThreshold == 0 {
		cfg.SnapshotThreshold = 4096
	}
	if cfg.TrailingLogs == 0 {
		cfg.TrailingLogs = 1024
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := &Log{cfg: cfg, leader: make(chan bool, 16)}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.closeFiles())
		}
	}()
	if l.lock, err = lockDir(cfg.Dir); err != nil {
		return nil, err
	}
	if l.mark, err = openMark(filepath.Join(cfg.Dir, "mark")); err != nil {
		return nil, err
	}
	snaps, err := l.openStores()
	if err != nil {
		return nil, err
	}
	if err := l.verify(snaps); err != nil {
		return nil, err
	}
	if err := l.start(snaps); err != nil {
		return nil, err
	}
	return l, nil
}

// openStores opens the log and the snapshots.
func (l *Log) openStores() (*raft.FileSnapshotStore, error) {
	dir := filepath.Join(l.cfg.Dir, "raft")
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) && l.mark.index > 0 {
		return nil, fmt.Errorf("directory raft is missing although %d commands have been stored in it; put it back, or remove %s to start with nothing", l.mark.index, l.cfg.Dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, err
	}
	logger := newLogger(l.cfg.Log)
	var err error
	l.meta = &metadb.BoltMetaDB{}
	if l.wal, err = wal.Open(dir, wal.WithMetaStore(l.meta), wal.WithSegmentSize(segmentSize), wal.WithLogger(logger)); err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, 2, logger)
	if err != nil {
		return nil, fmt.Errorf("snapshots: %w", err)
	}
	return snaps, nil
}

// start runs raft; one voter alone becomes leader before it returns.
func (l *Log) start(snaps raft.SnapshotStore) error {
	conf := l.raftConfig()
	trans, alone := l.cfg.Transport, false
	if trans == nil {
		_, mem := raft.NewInmemTransport(raft.ServerAddress(l.cfg.ID))
		mem.Connect(mem.LocalAddr(), mem)
		trans, alone = mem, true
	}
	exists, err := raft.HasExistingState(l.wal, l.wal, snaps)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	if !exists && alone {
		voter := raft.Server{Suffrage: raft.Voter, ID: conf.LocalID, Address: trans.LocalAddr()}
		if err := raft.BootstrapCluster(conf, l.wal, l.wal, snaps, trans, raft.Configuration{Servers: []raft.Server{voter}}); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
	}
	if l.raft, err = raft.NewRaft(conf, &fsm{store: l.cfg.Store, mark: l.mark}, l.wal, l.wal, snaps, trans); err != nil {
		return fmt.Errorf("raft: %w", err)
	}
	if alone {
		return l.lead(trans)
	}
	return nil
}

func (l *Log) raftConfig() *raft.Config {
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(l.cfg.ID)
	conf.Logger = newLogger(l.cfg.Log)
	conf.NotifyCh = l.leader
	conf.SnapshotThreshold = l.cfg.SnapshotThreshold
	conf.TrailingLogs = l.cfg.TrailingLogs
	conf.NoLegacyTelemetry = true
	conf.BatchApplyCh = true
	return conf
}

// lead makes the only voter stand for election at once, instead of after the
// timeout in which other voters could be heard of, and waits until all that is
// in the log is applied.
func (l *Log) lead(trans raft.Transport) error {
	if err := l.onlyVoter(); err != nil {
		return errors.Join(err, l.raft.Shutdown().Error())
	}
	self := trans.LocalAddr()
	err := trans.TimeoutNow(raft.ServerID(l.cfg.ID), self, &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}, &raft.TimeoutNowResponse{})
	if err == nil {
		err = l.waitLeader()
	}
	if err == nil {
		err = l.raft.Barrier(bootTimeout).Error()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("elect: %w", err), l.raft.Shutdown().Error())
	}
	return nil
}

// onlyVoter refuses a log that belongs to another node or to several.
func (l *Log) onlyVoter() error {
	f := l.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return err
	}
	servers := f.Configuration().Servers
	if len(servers) == 1 && servers[0].ID == raft.ServerID(l.cfg.ID) {
		return nil
	}
	return fmt.Errorf("the log is of the voters %v, this node is %s", servers, l.cfg.ID)
}

func (l *Log) waitLeader() error {
	timeout := time.NewTimer(bootTimeout)
	defer timeout.Stop()
	select {
	case <-l.leader:
		return nil
	case <-timeout.C:
		return fmt.Errorf("no leader after %s", bootTimeout)
	}
}

// Apply stores a command and returns its index when it is durable and applied.
// When ctx ends earlier, the command may still be applied.
func (l *Log) Apply(ctx context.Context, cmd state.Command) (uint64, error) {
	data, err := cmd.Encode()
	if err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	f := l.raft.Apply(data, 0)
	if err := f.Error(); err != nil {
		if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipLost) {
			err = fmt.Errorf("%w: %w", ErrNotLeader, err)
		}
		return 0, fmt.Errorf("store command: %w", err)
	}
	if err, ok := f.Response().(error); ok {
		return 0, fmt.Errorf("apply command: %w", err)
	}
	return f.Index(), nil
}

// Leading reports whether this voter leads.
func (l *Log) Leading() bool { return l.raft.State() == raft.Leader }

// Snapshot writes a snapshot now and compacts the log.
func (l *Log) Snapshot() error {
	if err := l.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// Close stops raft and closes the files. What was applied is durable without it.
func (l *Log) Close() error {
	err := l.raft.Shutdown().Error()
	return errors.Join(err, l.closeFiles())
}

func (l *Log) closeFiles() error {
	var errs []error
	if l.wal != nil {
		errs = append(errs, l.wal.Close())
	}
	if l.meta != nil {
		errs = append(errs, l.meta.Close())
	}
	if l.mark != nil {
		errs = append(errs, l.mark.Close())
	}
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	return errors.Join(errs...)
}
