package consensus

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"

	"github.com/dhow-project/dhow/cluster/state"
)

// bootTimeout bounds how long one voter takes to become leader; reached only
// when the disk does not answer.
const bootTimeout = 30 * time.Second

// Open opens the log in cfg.Dir, or makes a new one with this voter alone.
// One voter alone leads when Open returns, and its store holds all that was
// committed. One of several returns with what it knows to be committed, and
// learns the rest from the leader.
// A damaged log, a damaged snapshot and a missing directory are errors; nothing
// is repaired by leaving something out.
func Open(cfg Config) (*Log, error) {
	l, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("open cluster state in %s: %w", cfg.Dir, err)
	}
	return l, nil
}

func open(cfg Config) (*Log, error) {
	cfg = cfg.withDefaults()
	l := &Log{cfg: cfg, closed: make(chan struct{}), changed: make(chan struct{}), members: make(chan struct{}, 1)}
	if err := l.files.open(cfg); err != nil {
		return nil, errors.Join(err, l.files.close())
	}
	l.fsm = &fsm{store: cfg.Store, mark: l.files.mark}
	if err := l.files.verify(l.fsm); err != nil {
		return nil, errors.Join(err, l.files.close())
	}
	if err := l.start(); err != nil {
		return nil, errors.Join(err, l.stop())
	}
	return l, nil
}

func (c Config) withDefaults() Config {
	if c.SnapshotThreshold == 0 {
		c.SnapshotThreshold = 4096
	}
	if c.TrailingLogs == 0 {
		c.TrailingLogs = 1024
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Store == nil {
		c.Store = state.New()
	}
	return c
}

// start runs raft; one voter alone becomes leader before it returns.
func (l *Log) start() error {
	f, conf := &l.files, l.raftConfig()
	if l.cfg.Stream == nil {
		_, mem := raft.NewInmemTransport(raft.ServerAddress(l.cfg.ID))
		mem.Connect(mem.LocalAddr(), mem)
		l.trans = mem
	} else {
		l.net = newTransport(l.cfg.ID, l.cfg.Stream, newLogger(l.cfg.Log), f.guard.fit)
		l.trans = l.net
		f.guard.silent = l.fallSilent
	}
	f.guard.closed, f.guard.leading = l.closed, l.runningLeads
	exists, err := raft.HasExistingState(f.guard, f.guard, f.snaps)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	if !exists && !l.cfg.Join {
		if err := raft.BootstrapCluster(conf, f.guard, f.guard, f.snaps, l.trans, onlyVoter(l.cfg.ID)); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
	}
	if l.raft, err = raft.NewRaft(conf, l.fsm, f.guard, f.guard, f.snaps, l.trans); err != nil {
		return fmt.Errorf("raft: %w", err)
	}
	l.running.Store(l.raft)
	l.watch()
	if l.alone() {
		return l.lead()
	}
	if l.net == nil {
		return fmt.Errorf("the log is of the voters %v, this node is %s alone", l.servers(), l.cfg.ID)
	}
	return nil
}

// onlyVoter is the configuration of a cluster with one manager. Addresses are
// node IDs: where a node is found today is the stream's knowledge.
func onlyVoter(id string) raft.Configuration {
	return raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(id), Address: raft.ServerAddress(id)}}}
}

// The timeouts of several voters. A follower that has heard nothing for
// heartbeat to 3*heartbeat/2 stands for election, and wins when a majority has
// heard nothing either: a killed leader is replaced after one to two seconds.
// Heartbeats do not wait for disks, neither the leader's nor the follower's. An
// election does wait, for two writes on each side: its timeout is longer.
const (
	heartbeat = 600 * time.Millisecond
	election  = time.Second
	lease     = 500 * time.Millisecond // a leader that no majority has answered for so long steps down
	commit    = 200 * time.Millisecond // after which an idle log's followers learn what is committed
)

func (l *Log) raftConfig() *raft.Config {
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(l.cfg.ID)
	conf.Logger = newLogger(l.cfg.Log)
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout, conf.CommitTimeout = heartbeat, election, lease, commit
	conf.SnapshotThreshold = l.cfg.SnapshotThreshold
	conf.TrailingLogs = l.cfg.TrailingLogs
	conf.NoLegacyTelemetry = true
	conf.NoSnapshotRestoreOnStart = true // files.verify has restored it
	conf.ShutdownOnRemove = false        // who is removed is told by its leader, and closes the log itself
	conf.BatchApplyCh = false            // with a buffer, commands of a closed log would never be answered
	return conf
}

// lead makes the only voter stand for election at once, instead of after the
// timeout in which other voters could be heard of, and waits until all that is
// in the log is applied.
func (l *Log) lead() error {
	self := raft.ServerAddress(l.cfg.ID)
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(l.cfg.ID), Addr: []byte(self)}
	err := l.trans.TimeoutNow(raft.ServerID(l.cfg.ID), self, &raft.TimeoutNowRequest{RPCHeader: header}, &raft.TimeoutNowResponse{})
	if err == nil {
		err = l.waitLeading()
	}
	if err == nil {
		err = l.raft.Barrier(bootTimeout).Error()
	}
	if err != nil {
		return fmt.Errorf("elect: %w", err)
	}
	return nil
}

func (l *Log) waitLeading() error {
	timeout := time.NewTimer(bootTimeout)
	defer timeout.Stop()
	for {
		changed := l.LeaderChanged()
		if l.Leading() {
			return nil
		}
		select {
		case <-changed:
		case <-timeout.C:
			return fmt.Errorf("no leader after %s", bootTimeout)
		}
	}
}

// stop ends raft, its connections and its files.
func (l *Log) stop() error {
	var err error
	close(l.closed)
	if l.net != nil {
		l.net.layer.cut() // calls under way end now instead of at their deadlines
	}
	if l.raft != nil {
		err = l.raft.Shutdown().Error()
	} else if l.net != nil {
		err = l.net.Close()
	}
	l.watched.Wait()
	return errors.Join(err, l.files.close())
}
