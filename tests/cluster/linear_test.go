package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/moby/moby/api/types/swarm"

	"github.com/dhow-project/dhow/tests/netlab"
)

// access is what a client did to a register: the label "v" of a node.
type access struct {
	node  string
	write bool
	value string
}

// registers is the specification: each node's label alone, a read returns the last write.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) (out [][]porcupine.Operation) {
		at := map[string]int{}
		for _, op := range history {
			node := op.Input.(access).node
			i, ok := at[node]
			if !ok {
				i = len(out)
				at[node], out = i, append(out, nil)
			}
			out[i] = append(out[i], op)
		}
		return out
	},
	Init: func() any { return "" },
	Step: func(s, in, out any) (bool, any) {
		if a := in.(access); a.write {
			return true, a.value
		}
		return out.(string) == s.(string), s
	},
}

// history is what all clients saw.
type history struct {
	start time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation // guarded by mu
	reads int                   // guarded by mu; that were answered
	wrote int                   // guarded by mu; writes that were acknowledged
	lost  int                   // guarded by mu; writes with no known outcome
}

const never = int64(1) << 62 // a return that nobody saw

func (h *history) add(client int, a access, call time.Duration, out string, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	back := never
	switch {
	case !known:
		h.lost++
	case a.write:
		h.wrote++
	default:
		h.reads++
	}
	if known {
		back = int64(time.Since(h.start))
	}
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: a, Call: int64(call), Output: out, Return: back})
}

// socket speaks to a host's daemon.
func socket(h *netlab.Host) *http.Client {
	path := filepath.Join(h.RunDir, "dhow.sock")
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
}

// client reads and writes registers through any host until ctx ends. A write
// that gets anything but a success may have happened or not.
func (h *history) client(ctx context.Context, hosts []*netlab.Host, nodes []string, id int, rnd *rand.Rand) {
	for n := 0; ctx.Err() == nil; n++ {
		a := access{node: nodes[rnd.IntN(len(nodes))], write: rnd.IntN(2) == 0, value: fmt.Sprintf("%d.%d", id, n)}
		c := socket(hosts[rnd.IntN(len(hosts))])
		limited, cancel := context.WithTimeout(context.Background(), 8*time.Second)
		call := time.Since(h.start)
		out, err := a.do(limited, c)
		cancel()
		switch {
		case err == nil:
			h.add(id, a, call, out, true)
		case a.write:
			h.add(id, a, call, "", false)
		}
		if err != nil {
			select { // as a client that asks in vain would
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

func (a access) do(ctx context.Context, c *http.Client) (string, error) {
	if a.write {
		spec := swarm.NodeSpec{Role: swarm.NodeRoleManager, Availability: swarm.NodeAvailabilityActive, Annotations: swarm.Annotations{Labels: map[string]string{"v": a.value}}}
		return "", request(ctx, c, http.MethodPost, "/nodes/"+a.node+"/update?version=0", spec, nil)
	}
	var n swarm.Node
	err := request(ctx, c, http.MethodGet, "/nodes/"+a.node, nil, &n)
	return n.Spec.Labels["v"], err
}

func request(ctx context.Context, c *http.Client, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://dhow"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := c.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", res.Status, data)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}

func TestHistoriesUnderFaultsAreLinearizable(t *testing.T) {
	c := New(t, "whatever machines and links do, the cluster answers like one machine that does one thing after the other", 5, 0)
	var nodes []string
	for _, h := range c.Hosts {
		nodes = append(nodes, h.NodeID())
	}
	seed := seedOf(t)
	h := &history{start: time.Now()}
	ctx, stop := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() { h.client(ctx, c.Hosts, nodes[:3], i, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	c.Faults(rand.New(rand.NewPCG(seed, 99)), 12, 1500*time.Millisecond)
	stop()
	clients.Wait()
	t.Logf("seed %d: %d reads and %d writes answered, %d writes of unknown outcome", seed, h.reads, h.wrote, h.lost)
	if h.reads < 20 || h.wrote < 20 {
		t.Errorf("too little was answered to say anything")
	}
	switch res, _ := porcupine.CheckOperationsVerbose(registers, h.ops, 2*time.Minute); res {
	case porcupine.Illegal:
		t.Errorf("the history is not linearizable; DHOW_SEED=%d repeats the schedule", seed)
	case porcupine.Unknown:
		t.Errorf("the history could not be checked in time")
	}
	c.SameState()
}
