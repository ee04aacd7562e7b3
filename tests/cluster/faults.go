package cluster

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// seedOf is DHOW_SEED, or one of this run.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	if s := os.Getenv("DHOW_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("DHOW_SEED: %v", err)
		}
		return n
	}
	return rand.Uint64()
}

// Faults does n random faults to the cluster, one after the other, and undoes
// each after the pause, so that most of the managers can always talk to each
// other. All is well again when it returns.
func (c *C) Faults(rnd *rand.Rand, n int, pause time.Duration) {
	c.Helper()
	for range n {
		a := c.Hosts[rnd.IntN(len(c.Hosts))]
		b := c.Others(a)[rnd.IntN(len(c.Hosts)-1)]
		switch rnd.IntN(6) {
		case 0:
			c.Logf("  kill %s", a.Name)
			a.Kill()
			time.Sleep(pause)
			a.Start()
		case 1:
			c.Logf("  stop %s", a.Name)
			a.Stop()
			time.Sleep(pause)
			a.Start()
		case 2:
			c.Logf("  pause %s", a.Name)
			a.Pause()
			time.Sleep(pause)
			a.Continue()
		case 3:
			c.Logf("  isolate %s", a.Name)
			c.Lab.Isolate(a)
			time.Sleep(pause)
			c.Lab.Heal()
		case 4:
			c.Logf("  isolate %s and %s", a.Name, b.Name)
			c.Lab.Isolate(a, b)
			time.Sleep(pause)
			c.Lab.Heal()
		case 5:
			c.Logf("  cut the way from %s to %s", a.Name, b.Name)
			c.Lab.Cut(a, b)
			time.Sleep(pause)
			c.Lab.Heal()
		}
		time.Sleep(pause / 3)
	}
}

// SameState waits until all managers hold the same state, byte for byte.
func (c *C) SameState() {
	c.Helper()
	netlab.Eventually(c, 30*time.Second, "all managers hold the same state", func() error {
		seen := map[string][]string{}
		for _, h := range c.Hosts[:c.Managers] {
			file := filepath.Join(c.Dir, h.Name+".snapshot")
			if err := h.Exec("curl", "-sS", "--fail-with-body", "--unix-socket", filepath.Join(h.RunDir, "dhow.sock"), "-o", file,
				"http://dhow/dhow/v1/swarm/snapshot?consistency=stale").Err(); err != nil {
				return err
			}
			r := h.Try("swarm", "snapshot", "inspect", "--format", "json", file)
			if err := r.Err(); err != nil {
				return err
			}
			var info struct {
				Index    uint64
				Checksum string
			}
			if err := json.Unmarshal([]byte(r.Stdout), &info); err != nil || info.Checksum == "" {
				return fmt.Errorf("snapshot of %s: %w: %s", h.Name, err, r.Stdout)
			}
			sum := fmt.Sprint(info.Index, " ", info.Checksum)
			seen[sum] = append(seen[sum], h.Name)
		}
		if len(seen) != 1 {
			return fmt.Errorf("states %v", seen)
		}
		return nil
	})
}
