package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// served is the certificate that a host shows to those who connect now.
func served(t testing.TB, h *netlab.Host) *x509.Certificate {
	t.Helper()
	client := h.Client()
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}} //nolint:gosec // it is looked at, not trusted
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+net.JoinHostPort(h.Addr, "2377")+"/cluster/v1/root", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.TLS.PeerCertificates[0]
}

func TestCertificatesAreRenewed(t *testing.T) {
	t.Parallel() // it waits for most of its time
	c := New(t, "certificates are renewed before they end, and nobody is cut off; a machine that was off for too long says so", 0, 0)
	for range 5 {
		c.Hosts = append(c.Hosts, c.Lab.Host())
	}
	a, b, m3, w, late := c.Hosts[0], c.Hosts[1], c.Hosts[2], c.Hosts[3], c.Hosts[4]
	c.refuses(a, []string{"swarm", "init", "--advertise-addr", a.Addr, "--cert-expiry", "59s"}, "1m0s", "59s")
	c.Run(a, "swarm", "init", "--advertise-addr", a.Addr, "--cert-expiry", "1m")
	b.Join(a, "manager")
	m3.Join(a, "manager")
	w.Join(a, "worker")
	late.Join(a, "worker")
	c.shows(w, late.Name, "Ready Active")
	late.Kill()
	all := c.Others(late)
	first := map[string]*x509.Certificate{}
	end := time.Now()
	for _, h := range all {
		first[h.Name] = served(t, h)
		if left := time.Until(first[h.Name].NotAfter); left > time.Minute {
			t.Fatalf("%s has a certificate for %s", h.Name, left)
		}
		if e := first[h.Name].NotAfter; e.After(end) {
			end = e
		}
	}
	stop := c.writes(w.Name, w, b)
	c.Step("all renew in time", func() {
		for _, h := range all {
			netlab.Eventually(t, time.Until(first[h.Name].NotAfter), h.Name+" has another certificate", func() error {
				if now := served(t, h); now.SerialNumber.Cmp(first[h.Name].SerialNumber) == 0 || !now.NotAfter.After(first[h.Name].NotAfter) {
					return fmt.Errorf("certificate %s until %s", now.SerialNumber, now.NotAfter)
				}
				return nil
			})
			if late := time.Since(first[h.Name].NotAfter); late > 0 {
				t.Errorf("%s has another certificate %s after the end of the first", h.Name, late)
			}
		}
	})
	c.Step("all goes on after the first ones have ended", func() {
		pause(t.Context(), time.Until(end)+2*time.Second) // connections of the first certificates are still in use
		if n := stop(); n < 50 {
			t.Errorf("only %d writes", n)
		}
		for _, h := range all {
			for _, o := range all {
				if got, err := c.nodes(h); err != nil || !strings.HasPrefix(got[o.Name], "Ready") {
					t.Errorf("%s sees %v, %v", h.Name, got, err)
				}
			}
			if d := h.Try("system", "info", "--format", "{{.Swarm.LocalNodeState}}{{.Swarm.Error}}"); strings.TrimSpace(d.Stdout) != "active" {
				t.Errorf("%s: %s%s", h.Name, d.Stdout, d.Stderr)
			}
		}
	})
	c.Step("new connections work: another leads, and a killed manager comes back", func() {
		lead := c.Leader(w)
		lead.Kill()
		c.Run(w, "node", "update", "--label-add", "v=renewed", w.Name)
		lead.Start()
		c.shows(w, lead.Name, "Ready Active Reachable")
	})
	c.Step("a machine that was off until its certificate ended says so, and joins again", func() {
		late.Start()
		d := late.Try("system", "info", "--format", "{{.Swarm.LocalNodeState}} {{.Swarm.Error}}")
		for _, word := range []string{"error", "expired", "swarm leave --force"} {
			if !strings.Contains(d.Stdout, word) {
				t.Errorf("system info does not say %q: %s%s", word, d.Stdout, d.Stderr)
			}
		}
		c.Run(late, "swarm", "leave", "--force")
		late.Join(b, "worker")
		netlab.Eventually(t, 10*time.Second, "it is a node", func() error { return late.Try("node", "ls").Err() })
	})
}
