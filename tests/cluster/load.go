package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// Asker is somebody who asks a web server again and again: from a network
// namespace, each time over a new connection.
type Asker struct {
	Who, Namespace, URL string
}

// Load is what askers have got.
type Load struct {
	c      *C
	cancel context.CancelFunc
	group  sync.WaitGroup

	askers  []Asker
	mu      sync.Mutex
	sent    map[string]int // guarded by mu: by who asked
	slowest time.Duration  // guarded by mu: a lost packet is sent again after a second
	lost    []string       // guarded by mu
}

// Ask begins to ask.
func (c *C) Ask(askers ...Asker) *Load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{c: c, cancel: cancel, askers: askers, sent: map[string]int{}}
	for _, a := range askers {
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: a.dial}}
		l.group.Go(func() {
			for ctx.Err() == nil {
				start := time.Now()
				err := a.ask(client)
				l.note(a, time.Since(start), err)
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	return l
}

func (a Asker) dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	err = netlab.Inside(a.Namespace, func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

func (a Asker) ask(client *http.Client) error {
	resp, err := client.Get(a.URL)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err = io.Copy(io.Discard, resp.Body); err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return err
}

func (l *Load) note(a Asker, took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slowest = max(l.slowest, took)
	if l.sent[a.Who]++; err != nil {
		l.lost = append(l.lost, fmt.Sprintf("%s %s: %v", time.Now().Format("05.000"), a.Who, err))
	}
}

// Lost tells how many requests there were since the last call and fails the
// test when some were lost, or somebody got no answer.
func (l *Load) Lost(what string) {
	l.c.Helper()
	l.mu.Lock()
	sent, lost, slowest := l.sent, l.lost, l.slowest
	l.sent, l.lost, l.slowest = map[string]int{}, nil, 0
	l.mu.Unlock()
	all := 0
	for _, a := range l.askers {
		if all += sent[a.Who]; sent[a.Who] == 0 {
			l.c.Errorf("%s: %s got no answer", what, a.Who)
		}
	}
	l.c.Logf("  %s: %d requests, %d lost, the slowest took %s", what, all, len(lost), slowest.Round(time.Millisecond))
	if len(lost) > 0 {
		l.c.Errorf("%s: %d of %d requests were lost:\n%s", what, len(lost), all, strings.Join(lost[:min(len(lost), 10)], "\n"))
	}
}

// Stop stops asking, and judges what was asked last.
func (l *Load) Stop() {
	l.c.Helper()
	l.cancel()
	l.group.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lost) > 0 {
		l.c.Errorf("at the end %d requests were lost:\n%s", len(l.lost), strings.Join(l.lost[:min(len(l.lost), 10)], "\n"))
	}
}
