package gossip

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// five nodes that know each other.
func five(t *testing.T, n *memNet) []*Gossip {
	t.Helper()
	var all []*Gossip
	for i := range 5 {
		g := start(t, Config{Node: fmt.Sprint("n", i+1), Transport: n.host(), Meta: Meta{Addr: fmt.Sprintf("10.0.0.%d:2377", i+1), Role: stack.RoleWorker}})
		all = append(all, g)
		if i > 0 {
			if err := g.Join(t.Context(), []string{all[0].Addr()}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, g := range all {
		await(t, g, "five nodes", func() bool { return count(g) == 5 })
	}
	return all
}

func TestADeadNodeIsNoticed(t *testing.T) {
	simulated(t, func(t *testing.T) {
		all := five(t, newMemNet())
		if m, _ := all[1].Member("n4"); m.Meta.Addr != "10.0.0.4:2377" || m.Meta.Role != stack.RoleWorker {
			t.Errorf("n4 is known as %+v", m)
		}
		died := time.Now()
		if err := all[4].Close(); err != nil {
			t.Fatal(err)
		}
		for _, g := range all[:4] {
			await(t, g, "n5 dead", func() bool { return !alive(g, "n5") })
			m, _ := g.Member("n5")
			if d := m.Since.Sub(died); d > 2600*time.Millisecond { // see LAN
				t.Errorf("%s noticed after %v", g.cfg.Node, d)
			}
			if m.Left {
				t.Errorf("%s says that n5 left", g.cfg.Node)
			}
		}
		all[0].Forget("n5")
		if _, known := all[0].Member("n5"); known {
			t.Error("n5 was to be forgotten")
		}
	})
}

func TestWhoSaysGoodbyeIsNotWaitedFor(t *testing.T) {
	simulated(t, func(t *testing.T) {
		all := five(t, newMemNet())
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := all[2].Leave(ctx); err != nil {
			t.Fatal(err)
		}
		for _, g := range []*Gossip{all[0], all[1], all[3], all[4]} {
			await(t, g, "n3 left", func() bool { m, _ := g.Member("n3"); return !m.Alive && m.Left })
		}
	})
}

// TestOneBrokenWayKillsNobody: others reach the node, so it lives.
func TestOneBrokenWayKillsNobody(t *testing.T) {
	simulated(t, func(t *testing.T) {
		n := newMemNet()
		all := five(t, n)
		n.sever(all[0].Addr(), all[1].Addr())
		n.sever(all[1].Addr(), all[0].Addr())
		if died := watch(all, time.Minute); died != "" {
			t.Error(died)
		}
	})
}

// watch says who was taken for dead within d.
func watch(all []*Gossip, d time.Duration) string {
	end := time.After(d)
	for {
		changed := all[0].Changed()
		for _, g := range all {
			if count(g) != len(all) {
				return fmt.Sprintf("%s sees %+v", g.cfg.Node, g.Members())
			}
		}
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond):
		case <-end:
			return ""
		}
	}
}

// TestAPartitionHealsByItself: both halves took each other for dead, and their
// members are found again without anybody's help.
func TestAPartitionHealsByItself(t *testing.T) {
	simulated(t, func(t *testing.T) {
		n := newMemNet()
		all := five(t, n)
		for _, a := range all[:2] {
			for _, b := range all[2:] {
				n.sever(a.Addr(), b.Addr())
				n.sever(b.Addr(), a.Addr())
			}
		}
		await(t, all[0], "two nodes", func() bool { return count(all[0]) == 2 })
		await(t, all[4], "three nodes", func() bool { return count(all[4]) == 3 })
		n.mend()
		for _, g := range all {
			await(t, g, "five nodes", func() bool { return count(g) == 5 })
		}
	})
}

func TestANodeIsFoundAtItsNewAddress(t *testing.T) {
	simulated(t, func(t *testing.T) {
		n := newMemNet()
		all := five(t, n)
		others := []string{all[0].Addr(), all[1].Addr()}
		old := all[4].Addr()
		if err := all[4].Close(); err != nil {
			t.Fatal(err)
		}
		// Within the time that the others need to notice.
		again := start(t, Config{Node: "n5", Transport: n.host(), Meta: Meta{Addr: "10.0.0.6:2377"}})
		if again.Addr() == old {
			t.Fatal("the address is the same")
		}
		if err := again.Join(t.Context(), others); err != nil {
			t.Fatal(err)
		}
		for _, g := range all[:4] {
			await(t, g, "n5 at its new address", func() bool {
				m, _ := g.Member("n5")
				return m.Alive && m.Gossip == again.Addr() && m.Meta.Addr == "10.0.0.6:2377"
			})
		}
		await(t, again, "five nodes", func() bool { return count(again) == 5 })
	})
}

// A node that was told of others calls them at once, as it does after a restart.
func TestANodeThatIsAloneCallsTheOthers(t *testing.T) {
	simulated(t, func(t *testing.T) {
		n := newMemNet()
		a := start(t, Config{Node: "n1", Transport: n.host()})
		b := start(t, Config{Node: "n2", Transport: n.host()})
		began := time.Now()
		a.Know([]string{b.Addr()})
		await(t, a, "n2", func() bool { return alive(a, "n2") })
		if d := time.Since(began); d != 0 {
			t.Errorf("the first waited for %v", d)
		}
		await(t, b, "n1", func() bool { return alive(b, "n1") })
	})
}

func TestKeysAreRotatedUnderTheTalk(t *testing.T) {
	simulated(t, func(t *testing.T) {
		n := newMemNet()
		all := five(t, n)
		fresh := bytes.Repeat([]byte("k"), 32)
		for _, keys := range [][][]byte{{testKey, fresh}, {fresh, testKey}, {fresh}} {
			for _, g := range all {
				if err := g.SetKeys(keys); err != nil {
					t.Fatal(err)
				}
			}
			if err := all[0].SetMeta(Meta{Hostname: fmt.Sprint(len(keys), keys[0][0])}); err != nil {
				t.Fatal(err)
			}
			await(t, all[3], "news under the new keys", func() bool {
				m, _ := all[3].Member("n1")
				return m.Meta.Hostname == fmt.Sprint(len(keys), keys[0][0])
			})
		}
		stranger := start(t, Config{Node: "n9", Transport: n.host()})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := stranger.Join(ctx, []string{all[0].Addr()}); err == nil {
			t.Error("a node with the old key joined")
		}
		if _, known := all[0].Member("n9"); known {
			t.Error("the others know a node with the old key")
		}
	})
}

func TestSetKeysRefuses(t *testing.T) {
	g := start(t, Config{Node: "n1", Transport: newMemNet().host()})
	for _, keys := range [][][]byte{nil, {}, {[]byte("short")}, {testKey, nil}} {
		if err := g.SetKeys(keys); err == nil {
			t.Errorf("%q were taken", keys)
		}
	}
}

func TestAddressesAreChecked(t *testing.T) {
	for _, c := range []struct{ bind, advertise, want string }{
		{"nowhere:1", "", "listen address"}, {"127.0.0.1:x", "", "listen address"}, {"127.0.0.1:0", "host:1", "advertised address"}, {"127.0.0.1:70000", "", "listen address"},
	} {
		if _, err := Open(Config{Node: "n", Keys: [][]byte{testKey}, Bind: c.bind, Advertise: c.advertise}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := Open(Config{Node: "n", Bind: "127.0.0.1:0"}); err == nil {
		t.Error("no key, and no error")
	}
}

// TestOverTheKernel: UDP and TCP, IPv4 and IPv6.
func TestOverTheKernel(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
			if err != nil {
				t.Skipf("this machine has no %s: %v", host, err)
			}
			l.Close()
			var all []*Gossip
			for i := range 5 {
				g := start(t, Config{Node: fmt.Sprint("n", i+1), Bind: net.JoinHostPort(host, "0")})
				if all = append(all, g); i == 0 {
					continue
				}
				if err := g.Join(t.Context(), []string{all[0].Addr()}); err != nil {
					t.Fatal(err)
				}
			}
			for _, g := range all {
				await(t, g, "five nodes", func() bool { return count(g) == 5 })
			}
			died := time.Now()
			if err := all[4].Close(); err != nil {
				t.Fatal(err)
			}
			for _, g := range all[:4] {
				await(t, g, "n5 dead", func() bool { return !alive(g, "n5") })
				m, _ := g.Member("n5")
				t.Logf("%s noticed after %v", g.cfg.Node, m.Since.Sub(died).Round(time.Millisecond))
			}
		})
	}
}

func FuzzMeta(f *testing.F) {
	f.Add([]byte(`{"a":"10.0.0.1:2377","h":"one","r":"manager"}`))
	f.Add([]byte(`{"a":"nowhere"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMeta(data)
		if err == nil && m.Addr != "" {
			if _, _, err := net.SplitHostPort(m.Addr); err != nil {
				t.Errorf("address %q was taken", m.Addr)
			}
		}
	})
}
