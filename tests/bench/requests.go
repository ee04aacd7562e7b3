package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/cluster"
	"github.com/dhow-project/dhow/tests/netlab"
)

// web is a real server whose tasks get requests as soon as they are healthy.
const web = `
name: shop
services:
  web:
    image: nginx:latest
    command: ["nginx", "-g", "daemon off;"]
    labels: {version: "%d"}
    stop_grace_period: 5s
    healthcheck: {test: ["CMD", "curl", "-fsS", "http://127.0.0.1/"], interval: 1s, timeout: 3s, retries: 3, start_period: 20s, start_interval: 300ms}
    deploy:
      replicas: 4
      update_config: {parallelism: 2, monitor: 1s, order: start-first}
`

// shop is a cluster with a service that is asked all the time.
type shop struct {
	*cluster.C
	worker  *netlab.Host
	version int
}

func newShop(b *testing.B) *shop {
	b.Helper()
	c := cluster.New(b, "requests are lost in none of them", managers, 1, "nginx:latest")
	s := &shop{C: c, worker: c.Hosts[managers]}
	s.update()
	return s
}

// update replaces all tasks.
func (s *shop) update() {
	s.Helper()
	s.version++
	s.Compose(fmt.Sprintf(web, s.version))
	s.Run(s.worker, "up", "-d", "--wait")
}

// while sends requests for as long as f takes, and a moment longer.
func (s *shop) while(f func()) (sent int, lost []string) {
	s.Helper()
	b := s.Balance("shop", "web")
	f()
	time.Sleep(time.Second)
	return b.Stop()
}

func (s *shop) drain() {
	s.Helper()
	s.Run(s.Hosts[0], "node", "update", "--availability", "drain", s.worker.Name)
	s.Runs(time.Minute, "shop", "web", 4, s.Others(s.worker)...)
	s.Runs(time.Minute, "shop", "web", 0, s.worker)
	s.Run(s.Hosts[0], "node", "update", "--availability", "active", s.worker.Name)
}

// deposed kills the leader; its containers run on.
func (s *shop) deposed() {
	s.Helper()
	old := s.Leader(s.worker)
	old.Kill()
	netlab.Eventually(s, time.Minute, "another one leads", func() error {
		if r := s.worker.Try("node", "update", "--label-add", "bench=1", s.worker.Name); r.Err() != nil {
			return r.Err()
		}
		return nil
	})
	old.Start()
}
