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

	mu   sync.Mutex
	sent int      // guarded by mu
	lost []string // guarded by mu
}

// Ask begins to ask.
func (c *C) Ask(askers ...Asker) *Load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{c: c, cancel: cancel}
	for _, a := range askers {
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: a.dial}}
		l.group.Go(func() {
			for ctx.Err() == nil {
				l.note(a, a.ask(client))
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

func (l *Load) note(a Asker, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sent++; err != nil {
		l.lost = append(l.lost, fmt.Sprintf("%s %s: %v", time.Now().Format("05.000"), a.Who, err))
	}
}

// Lost tells how many requests there were since the last call and fails the
// test when some were lost.
func (l *Load) Lost(what string) {
	l.c.Helper()
	l.mu.Lock()
	sent, lost := l.sent, l.lost
	l.sent, l.lost = 0, nil
	l.mu.Unlock()
	l.c.Logf("  %s: %d requests, %d lost", what, sent, len(lost))
	if len(lost) > 0 || sent == 0 {
		l.c.Errorf("%s: %d of %d requests were lost:\n%s", what, len(lost), sent, strings.Join(lost[:min(len(lost), 10)], "\n"))
	}
}

// Stop stops asking.
func (l *Load) Stop() {
	l.cancel()
	l.group.Wait()
}
