package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/dhow-project/dhow/runtime"
)

// place says where this machine listens and where others reach it; remote is
// a node that it is to reach, "" if there is none yet. Both can be used now.
func (n *Node) place(ctx context.Context, listen, advertise, remote string) (*member, error) {
	m := &member{}
	var err error
	if m.Listen, err = listenAddr(listen); err != nil {
		return nil, err
	}
	bind, err := resolve(m.Listen)
	if err != nil {
		return nil, err
	}
	if m.Advertise, err = n.reachedAt(ctx, m.Listen, bind, advertise, remote); err != nil {
		return nil, err
	}
	told, err := resolve(m.Advertise)
	if err != nil {
		return nil, err
	}
	switch {
	case anywhere(told):
		return nil, fmt.Errorf("advertised address %q: others cannot reach that: %w", m.Advertise, runtime.ErrInvalid)
	case anywhere(bind) && isSix(told) && !isSix(bind): // IPv4's all addresses are not all of them
		m.Listen = withPort("[::]:0", m.Listen)
		bind = m.Listen
	}
	m.Own = isOwn(hostOf(told))
	m.Gossip = net.JoinHostPort(hostOf(bind), strconv.Itoa(n.cfg.GossipPort))
	return m, errors.Join(free(ctx, bind), freeToo(ctx, m.Gossip))
}

// reachedAt is the address that others are told.
func (n *Node) reachedAt(ctx context.Context, listen, bind, advertise, remote string) (string, error) {
	_, p, err := net.SplitHostPort(bind)
	if err != nil {
		return "", err
	}
	var host string
	switch {
	case advertise != "":
		port, err := strconv.Atoi(p)
		if err != nil {
			return "", err
		}
		return complete(advertise, port)
	case !anywhere(bind):
		return listen, nil
	case remote != "":
		host, err = towards(ctx, remote)
	default:
		host, err = onlyAddr(n.cfg.Ours)
	}
	return net.JoinHostPort(host, p), err
}

// free reports why a TCP address cannot be listened on: better now than when
// half of a change has been made.
func free(ctx context.Context, addr string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return inUse(addr, err)
	}
	return l.Close()
}

// freeToo is free for an address of gossip, which is also of UDP.
func freeToo(ctx context.Context, addr string) error {
	if err := free(ctx, addr); err != nil {
		return err
	}
	l, err := new(net.ListenConfig).ListenPacket(ctx, "udp", addr)
	if err != nil {
		return inUse(addr, err)
	}
	return l.Close()
}

func inUse(addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listen for other nodes on %s: another program listens there: %w: %w", addr, runtime.ErrConflict, err)
	}
	return fmt.Errorf("listen for other nodes on %s: %w: %w", addr, runtime.ErrInvalid, err)
}

// gossipOf is where others reach a member's gossip: at told, its address.
func (m *member) gossipOf(told string) string { return withPort(told, m.Gossip) }

// gossipOn is where a member's gossip listens now.
func (m *member) gossipOn() string {
	if bind, err := resolve(m.Listen); err == nil {
		return withPort(bind, m.Gossip)
	}
	return m.Gossip
}

// bindPause is how long to wait before an address that could not be listened on
// is tried again: one that is not there yet, as when a network comes up late.
const bindPause = 2 * time.Second
