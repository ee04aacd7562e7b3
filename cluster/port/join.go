package port

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/dhow-project/dhow/cluster/identity"
	"github.com/dhow-project/dhow/runtime"
)

const maxRootAnswer = 64 << 10

// JoinClient is for a machine that is no node yet: it asks the manager at addr
// (host:port) for its roots, compares them with the token, and returns a client
// that reaches only a manager of the token's cluster there. No secret has been
// sent when it returns. Requests go to http://ADDR/... ; RootPath must answer
// with the PEM bundle itself.
func JoinClient(ctx context.Context, addr string, token identity.Token, timeout time.Duration) (*http.Client, error) {
	roots, err := shownRoots(ctx, addr, timeout)
	if err != nil {
		return nil, fmt.Errorf("ask %s for its certificate authority: %w", addr, err)
	}
	cfg, err := identity.JoinTLS(token, roots, time.Now())
	if err != nil {
		return nil, fmt.Errorf("join through %s: %w", addr, err)
	}
	return tlsClient(addr, cfg, timeout), nil
}

// shownRoots is what whoever answers at addr shows. Nobody vouches for it.
func shownRoots(ctx context.Context, addr string, timeout time.Duration) ([]byte, error) {
	c := tlsClient(addr, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{ProtoHTTP},
		InsecureSkipVerify: true, // the token says what to believe
	}, timeout)
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+RootPath, nil)
	if err != nil {
		return nil, err
	}
	res, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: it answers %s: is it a manager's cluster port?", runtime.ErrInvalid, res.Status)
	}
	return io.ReadAll(io.LimitReader(res.Body, maxRootAnswer))
}

// tlsClient sends every request to addr, over TLS by cfg.
func tlsClient(addr string, cfg *tls.Config, timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				d := tls.Dialer{Config: cfg}
				return d.DialContext(ctx, "tcp", addr)
			},
			MaxResponseHeaderBytes: maxHeader,
		},
	}
}
