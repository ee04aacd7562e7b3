package cluster

import (
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// The list of nodes says at once that a manager is none any more; its vote is
// needed until the others have taken it.
func TestSeveralManagersAreDemotedAtOnce(t *testing.T) {
	c := New(t, "demoting most managers in one breath leaves a cluster that decides", 3, 0)
	for range 3 {
		stays := c.Hosts[2]
		start := time.Now()
		stays.Dhow("node", "demote", c.Hosts[0].Name, c.Hosts[1].Name)
		stays.Dhow("node", "update", "--label-add", "at="+start.Format(time.TimeOnly), stays.Name)
		stays.Dhow("node", "promote", c.Hosts[0].Name, c.Hosts[1].Name)
		t.Logf("  demoted and promoted in %s", time.Since(start).Round(time.Millisecond))
		netlab.Eventually(t, 20*time.Second, "all are managers again", func() error {
			for _, h := range c.Hosts {
				if err := h.Try("node", "ls", "--stale").Err(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	c.SameState()
}
