package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/dhow-project/dhow/stack"
)

// DefaultPort is where nodes gossip, on UDP and TCP.
const DefaultPort = 7946

// Config of a Gossip. Node and Keys are required.
type Config struct {
	Node      string   // ID
	Bind      string   // host:port to listen on, UDP and TCP; "": all addresses, DefaultPort; port 0: a free one
	Advertise string   // host or host:port that others reach it by; "": the bound address, or a private one of this machine
	Keys      [][]byte // 16, 24 or 32 bytes each; the first encrypts, all decrypt
	Meta      Meta     // what others learn of this node
	Log       *slog.Logger
	Transport memberlist.Transport // nil: UDP and TCP
	Tuning    Tuning               // zero: LAN
}

// Meta is what a node tells the others of itself.
type Meta struct {
	Addr     string     `json:"a,omitempty"` // host:port of its cluster port
	Hostname string     `json:"h,omitempty"`
	Role     stack.Role `json:"r,omitempty"`
	Leaving  bool       `json:"l,omitempty"` // set by Leave
}

// Member is a node that gossip has heard of.
type Member struct {
	Node   string
	Gossip string // host:port that it gossips at
	Meta   Meta
	Alive  bool
	Left   bool      // it said goodbye; only when not Alive
	Since  time.Time // of the last change of Alive, by this node's clock
}

// Gossip is one node's part in the talk.
type Gossip struct {
	cfg  Config
	log  *slog.Logger
	mlog *lines
	addr string // host:port that others reach it at
	list *memberlist.Memberlist
	ring *memberlist.Keyring
	tell *teller

	differ chan string   // addresses of nodes that know something else
	told   chan struct{} // Know was given addresses that are new

	mu      sync.Mutex
	known   []string // guarded by mu: addresses that Join was given
	meta    Meta     // guarded by mu
	stopped bool     // guarded by mu
}

// Open starts to listen and knows nobody but itself until Join, or until another node joins it.
func Open(cfg Config) (*Gossip, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Tuning == (Tuning{}) {
		cfg.Tuning = LAN
	}
	g := &Gossip{cfg: cfg, log: cfg.Log.With("part", "gossip"), meta: cfg.Meta}
	g.tell, g.mlog, g.differ, g.told = newTeller(cfg.Node), &lines{log: g.log}, make(chan string, 1), make(chan struct{}, 1)
	mc, err := g.config()
	if err != nil {
		return nil, fmt.Errorf("open gossip: %w", err)
	}
	g.ring = mc.Keyring
	if mc.Transport == nil {
		if mc.Transport, err = listen(mc.BindAddr, mc.BindPort, g.log); err != nil {
			return nil, fmt.Errorf("open gossip: %w", err)
		}
	}
	if g.list, err = memberlist.Create(mc); err != nil {
		return nil, errors.Join(fmt.Errorf("open gossip on %s: %w", net.JoinHostPort(mc.BindAddr, strconv.Itoa(mc.BindPort)), err), mc.Transport.Shutdown())
	}
	self := g.list.LocalNode() // later on it is memberlist's to change
	g.addr = net.JoinHostPort(self.Addr.String(), strconv.Itoa(int(self.Port)))
	return g, nil
}

// config translates ours.
func (g *Gossip) config() (*memberlist.Config, error) {
	if g.cfg.Node == "" || len(g.cfg.Keys) == 0 {
		return nil, errors.New("a node ID and a key are needed")
	}
	mc := memberlist.DefaultLANConfig()
	g.cfg.Tuning.apply(mc)
	mc.Name = g.cfg.Node
	host, port, err := split(g.cfg.Bind, DefaultPort)
	if err != nil {
		return nil, fmt.Errorf("listen address: %w", err)
	}
	mc.BindAddr, mc.BindPort = host, port
	if host == "" {
		mc.BindAddr = "0.0.0.0"
	}
	if g.cfg.Advertise != "" {
		if host, port, err = split(g.cfg.Advertise, mc.BindPort); err != nil {
			return nil, fmt.Errorf("advertised address: %w", err)
		}
		mc.AdvertiseAddr, mc.AdvertisePort = host, port
	}
	if mc.Keyring, err = memberlist.NewKeyring(g.cfg.Keys, g.cfg.Keys[0]); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	mc.Transport = g.cfg.Transport
	mc.Logger = newLogger(g.mlog)
	mc.Delegate = delegate{g}
	mc.Events = g.tell
	mc.Alive = aliveFilter{}
	mc.Conflict = conflict{g}
	mc.Ping = comparison{g}
	return mc, nil
}

// split takes host:port or a host alone.
func split(addr string, port int) (string, int, error) {
	if addr == "" {
		return "", port, nil
	}
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.Trim(addr, "[]")
	} else if port, err = strconv.Atoi(p); err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("%q: port %q is not a number of 0 to 65535", addr, p)
	}
	if host != "" && net.ParseIP(host) == nil {
		return "", 0, fmt.Errorf("%q: %q is not an IP address", addr, host)
	}
	return host, port, nil
}

// Addr is host:port that others reach this node's gossip at.
func (g *Gossip) Addr() string { return g.addr }

// Join makes this node known to those at addrs (host:port of their gossip), and
// them and all they know to it. It tries for as long as none of them answers.
// The addresses are remembered: Run calls them again when this node is alone.
func (g *Gossip) Join(ctx context.Context, addrs []string) error {
	g.Know(addrs)
	addrs = g.others(addrs)
	if len(addrs) == 0 {
		return errors.New("join gossip: no address of another node is known")
	}
	wait := 50 * time.Millisecond
	for {
		n, err := g.list.Join(addrs)
		if n > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("join gossip at %s: %w", strings.Join(addrs, ", "), errors.Join(ctx.Err(), err))
		case <-time.After(jitter(wait)):
			wait = min(2*wait, 2*time.Second)
		}
	}
}

// others leaves out this node's own address.
func (g *Gossip) others(addrs []string) []string {
	self := g.Addr()
	return slices.DeleteFunc(slices.Clone(addrs), func(a string) bool { return a == self })
}

// Know replaces the addresses that are called when this node knows nobody; new
// ones are called at once.
func (g *Gossip) Know(addrs []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if slices.ContainsFunc(addrs, func(a string) bool { return !slices.Contains(g.known, a) }) {
		select {
		case g.told <- struct{}{}:
		default: // Run has yet to look
		}
	}
	g.known = slices.Clone(addrs)
}

// Members returns all nodes that gossip has heard of since Open and that were
// not forgotten, by ID, itself among them.
func (g *Gossip) Members() []Member { return g.tell.members() }

// Member returns one node.
func (g *Gossip) Member(node string) (Member, bool) { return g.tell.member(node) }

// Changed is closed at the next change of Members.
func (g *Gossip) Changed() <-chan struct{} { return g.tell.changed() }

// Forget drops what is known of a dead node, when it is no part of the cluster any more.
func (g *Gossip) Forget(node string) { g.tell.forget(node) }

// SetMeta tells the others what has changed about this node.
func (g *Gossip) SetMeta(m Meta) error {
	g.mu.Lock()
	same := g.meta == m
	g.meta = m
	g.mu.Unlock()
	if same {
		return nil
	}
	if err := g.list.UpdateNode(0); err != nil {
		return fmt.Errorf("gossip: tell of this node: %w", err)
	}
	return nil
}

// SetKeys replaces the keys; the first encrypts. A rotation takes three steps,
// each of which has to reach all nodes before the next: the new key last, the
// new key first, the new key alone.
func (g *Gossip) SetKeys(keys [][]byte) error {
	if len(keys) == 0 {
		return errors.New("gossip keys: at least one is needed")
	}
	for _, k := range keys {
		if err := memberlist.ValidateKey(k); err != nil {
			return fmt.Errorf("gossip keys: %w", err)
		}
	}
	for _, k := range keys {
		if err := g.ring.AddKey(k); err != nil {
			return fmt.Errorf("gossip keys: %w", err)
		}
	}
	if err := g.ring.UseKey(keys[0]); err != nil {
		return fmt.Errorf("gossip keys: %w", err)
	}
	for _, old := range slices.Clone(g.ring.GetKeys()) {
		if slices.ContainsFunc(keys, func(k []byte) bool { return string(k) == string(old) }) {
			continue
		}
		if err := g.ring.RemoveKey(old); err != nil {
			return fmt.Errorf("gossip keys: %w", err)
		}
	}
	return nil
}

// Leave says goodbye, so that nobody waits for this node, and stops.
func (g *Gossip) Leave(ctx context.Context) error {
	wait := time.Second
	if d, ok := ctx.Deadline(); ok {
		wait = max(time.Until(d), 0)
	}
	g.mu.Lock()
	g.meta.Leaving = true
	g.mu.Unlock()
	for _, n := range g.list.Members() {
		if n.Name != g.cfg.Node {
			_ = g.list.SendBestEffort(n, []byte(goodbye+g.cfg.Node)) // who does not hear it may hear it from others
		}
	}
	err := g.list.UpdateNode(wait / 2)
	if err == nil {
		err = g.list.Leave(wait / 2)
	}
	if cerr := g.Close(); cerr != nil {
		err = errors.Join(err, cerr)
	}
	if err != nil {
		return fmt.Errorf("leave gossip: %w", err)
	}
	return nil
}

// Close stops without a word: to the others this node dies.
func (g *Gossip) Close() error {
	g.mu.Lock()
	was := g.stopped
	g.stopped = true
	g.mu.Unlock()
	if was {
		return nil
	}
	defer g.mlog.close()
	return g.list.Shutdown()
}
