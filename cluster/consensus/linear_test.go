package consensus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// access is what a client did to a register.
type access struct {
	key   string
	write bool
	value string
}

// registers is the specification: each key alone, a read returns the last write.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range history {
			k := op.Input.(access).key
			byKey[k] = append(byKey[k], op)
		}
		var out [][]porcupine.Operation
		for _, ops := range byKey {
			out = append(out, ops)
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
	reads int                   // guarded by mu; that returned
	lost  int                   // guarded by mu; writes with no known outcome
}

const never = int64(1) << 62 // a return that nobody saw

func (h *history) add(client int, a access, call time.Duration, out string, back int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: a, Call: int64(call), Output: out, Return: back})
	if !a.write {
		h.reads++
	}
	if back == never {
		h.lost++
	}
}

// client reads and writes registers at whichever manager it finds, until ctx ends.
func (h *history) client(ctx context.Context, v *voters, id int, rnd *rand.Rand) {
	for n := 0; ctx.Err() == nil; n++ {
		a := access{key: fmt.Sprint("k", rnd.IntN(3)), write: rnd.IntN(2) == 0, value: fmt.Sprintf("%d.%d", id, n)}
		node := v.node(v.ids[rnd.IntN(len(v.ids))])
		if node == nil {
			continue
		}
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		called := h.try(short, node, id, a)
		cancel()
		if !called {
			select { // as a client that asks in vain would
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

// try does one access and reports whether the node led.
func (h *history) try(ctx context.Context, node *voter, id int, a access) bool {
	call := time.Since(h.start)
	if !a.write {
		if node.Verify(ctx) != nil {
			return false
		}
		got := get(node.store, a.key)
		h.add(id, a, call, got, int64(time.Since(h.start)))
		return true
	}
	_, err := node.Apply(ctx, put(a.key, a.value))
	switch {
	case err == nil:
		h.add(id, a, call, "", int64(time.Since(h.start)))
	case errors.Is(err, ErrNotLeader): // it never happened
		return false
	default:
		h.add(id, a, call, "", never)
	}
	return true
}

// fault is one thing that goes wrong, or right again.
type fault struct {
	after time.Duration
	name  string
	do    func(v *voters)
}

// faults is the schedule that a seed stands for. At most a minority is down at any time.
func faults(seed uint64, ids []string, n int) []fault {
	rnd := rand.New(rand.NewPCG(seed, 1))
	down := map[string]bool{}
	var out []fault
	add := func(name string, do func(v *voters)) {
		out = append(out, fault{time.Duration(50+rnd.IntN(550)) * time.Millisecond, name, do})
	}
	for len(out) < n {
		x := ids[rnd.IntN(len(ids))]
		y := ids[rnd.IntN(len(ids))]
		switch k := rnd.IntN(10); {
		case k < 2 && !down[x] && len(down) < (len(ids)-1)/2:
			down[x] = true
			add("crash "+x, func(v *voters) { v.crash(x) })
		case k < 5 && down[x]:
			delete(down, x)
			add("start "+x, func(v *voters) { v.start(x, false) })
		case k == 5 && x != y:
			add("cut "+x+" to "+y, func(v *voters) { v.net.cut(x, y) })
		case k == 6:
			add("isolate "+x, func(v *voters) { v.net.split([]string{x}, v.others(x)) })
		case k == 7:
			add("transfer", func(v *voters) {
				for _, n := range v.all() {
					if n.Leading() {
						_ = n.Transfer(v.within(time.Second)) // it may well fail now
					}
				}
			})
		case k == 8:
			d := time.Duration(rnd.IntN(30)) * time.Millisecond
			add(fmt.Sprint("slow ", d), func(v *voters) { v.net.slow(d) })
		case k == 9:
			add("heal", func(v *voters) { v.net.heal() })
		}
	}
	return out
}

// TestHistoriesAreLinearizable runs clients against a cluster while a schedule of faults runs.
// CONSENSUS_SEED replays one.
func TestHistoriesAreLinearizable(t *testing.T) {
	t.Parallel()
	seeds := []uint64{1, 2, uint64(time.Now().UnixNano())}
	if s := os.Getenv("CONSENSUS_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		must(t, err)
		seeds = []uint64{seed}
	}
	for i, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			checkHistory(t, seed, 3+2*(i%2))
		})
	}
}

func checkHistory(t *testing.T, seed uint64, size int) {
	v := mustVoters(t, size, nil)
	h := &history{start: time.Now()}
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for id := range 6 {
		clients.Go(func() { h.client(ctx, v, id, rand.New(rand.NewPCG(seed, uint64(id)+2))) })
	}
	for _, f := range faults(seed, v.ids, 30) {
		time.Sleep(f.after) // the schedule's own time
		t.Logf("%6.2fs %s", time.Since(h.start).Seconds(), f.name)
		f.do(v)
	}
	cancel()
	clients.Wait()
	v.net.heal()
	v.net.slow(0)
	for _, id := range v.ids {
		if v.node(id) == nil {
			v.start(id, false)
		}
	}
	v.equal()
	result := porcupine.CheckOperationsTimeout(registers, h.ops, 2*time.Minute)
	t.Logf("%d operations, %d reads, %d writes of unknown outcome: %s", len(h.ops), h.reads, h.lost, result)
	if result != porcupine.Ok {
		t.Errorf("the history is not linearizable: replay with CONSENSUS_SEED=%d", seed)
	}
	if h.reads < 50 || len(h.ops)-h.reads < 50 {
		t.Errorf("%d reads of %d operations: too few to tell", h.reads, len(h.ops))
	}
}
