package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/distribution/reference"

	"github.com/dhow-project/dhow/runtime"
)

const (
	hubName     = "docker.io"
	hubHost     = "registry-1.docker.io"
	dialTimeout = 10 * time.Second
	stallTime   = time.Minute // without a byte, before a connection counts as lost
)

var defaultCertsDirs = []string{"/etc/dhow/certs.d", "/etc/docker/certs.d"}

func userAgent() http.Header { return http.Header{"User-Agent": {"dhow"}} }

// registry is the way to the registry of one image, for one pull.
type registry struct {
	store  *Store
	domain string                // "docker.io", "registry.example:5000"
	auth   *runtime.RegistryAuth // nil: what the node knows
	creds  *credentials
	trs    []*http.Transport

	mu     sync.Mutex
	silent []string // addresses that did not answer; guarded by mu
}

func (s *Store) registry(name reference.Named, auth *runtime.RegistryAuth) *registry {
	return &registry{store: s, domain: reference.Domain(name), auth: auth, creds: &credentials{path: s.cfg.DockerConfig, log: s.log}}
}

func (r *registry) close() {
	for _, t := range r.trs {
		t.CloseIdleConnections()
	}
}

// hosts lists where to ask, mirrors first. It fits docker.RegistryHosts.
func (r *registry) hosts(domain string) ([]docker.RegistryHost, error) {
	var hosts []docker.RegistryHost
	for _, m := range r.store.cfg.Mirrors[domain] {
		if !strings.Contains(m, "://") {
			m = "https://" + m
		}
		u, err := url.Parse(m)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("mirror %q of %s: not a URL: %w", m, domain, runtime.ErrInvalid)
		}
		h, err := r.host(u.Host, u.Scheme, nil)
		if err != nil {
			return nil, fmt.Errorf("mirror %s: %w", m, err)
		}
		h.Path = strings.TrimSuffix(u.Path, "/") + "/v2"
		h.Capabilities = docker.HostCapabilityPull | docker.HostCapabilityResolve
		hosts = append(hosts, h)
	}
	host := domain
	if domain == hubName {
		host = hubHost
	}
	h, err := r.host(host, "https", r.auth)
	if err != nil {
		return nil, err
	}
	return append(hosts, h), nil
}

func (r *registry) host(host, scheme string, auth *runtime.RegistryAuth) (docker.RegistryHost, error) {
	tlsConfig, private, err := r.tlsConfig(host)
	if err != nil {
		return docker.RegistryHost{}, err
	}
	insecure := r.store.isInsecure(host)
	tlsConfig.InsecureSkipVerify = insecure && !private
	tr := docker.DefaultHTTPTransport(tlsConfig)
	tr.DialContext = r.dial
	r.trs = append(r.trs, tr)
	client := &http.Client{Transport: tr}
	if insecure && !private {
		client.Transport = docker.NewHTTPFallback(tr)
	}
	h := docker.RegistryHost{Client: client, Host: host, Scheme: scheme, Path: "/v2", Header: userAgent(),
		Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve | docker.HostCapabilityPush}
	if auth != nil && auth.RegistryToken != "" {
		h.Header.Set("Authorization", "Bearer "+auth.RegistryToken)
		return h, nil
	}
	h.Authorizer = docker.NewDockerAuthorizer(docker.WithAuthClient(client), docker.WithAuthHeader(userAgent()),
		docker.WithAuthCreds(func(host string) (string, string, error) {
			if auth != nil {
				user, secret := split(auth.Username, auth.Password, auth.IdentityToken)
				return user, secret, nil
			}
			return r.creds.get(host)
		}))
	return h, nil
}

// certsDirs are where certificates of registries may lie.
func (s *Store) certsDirs() []string {
	if s.cfg.CertsDirs != nil {
		return slices.Clone(s.cfg.CertsDirs)
	}
	return slices.Clone(defaultCertsDirs)
}

// tlsConfig reads the folder of host in the certificate directories. private
// tells that there is an authority of its own.
func (r *registry) tlsConfig(host string) (_ *tls.Config, private bool, _ error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	for _, dir := range r.store.certsDirs() {
		entries, err := os.ReadDir(filepath.Join(dir, host))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, false, fmt.Errorf("certificates of %s: %w", host, err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, host, e.Name())
			switch filepath.Ext(path) {
			case ".crt":
				private = true
				err = addAuthority(c, path)
			case ".cert":
				err = addClientCert(c, path)
			}
			if err != nil {
				return nil, false, fmt.Errorf("certificates of %s: %w", host, err)
			}
		}
	}
	return c, private, nil
}

func addAuthority(c *tls.Config, path string) error {
	pem, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if c.RootCAs == nil {
		if c.RootCAs, err = x509.SystemCertPool(); err != nil {
			c.RootCAs = x509.NewCertPool()
		}
	}
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s: no certificate in PEM form: %w", path, runtime.ErrInvalid)
	}
	return nil
}

func addClientCert(c *tls.Config, path string) error {
	key := strings.TrimSuffix(path, ".cert") + ".key"
	pair, err := tls.LoadX509KeyPair(path, key)
	if err != nil {
		return fmt.Errorf("%s with %s: %w", path, key, err)
	}
	c.Certificates = append(c.Certificates, pair)
	return nil
}

// isInsecure tells hosts that may have any certificate, or none.
func (s *Store) isInsecure(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if docker.IsLocalhost(name) {
		return true
	}
	if slices.Contains(s.cfg.InsecureRegistries, host) || slices.Contains(s.cfg.InsecureRegistries, name) {
		return true
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(s.cfg.InsecureRegistries, func(cidr string) bool {
		p, err := netip.ParsePrefix(cidr)
		return err == nil && p.Contains(addr.Unmap())
	})
}

// dialError tells a registry that does not answer from one that says no. It
// deliberately is no net.Error: a host that cannot be reached is not asked again.
type dialError struct {
	addr string
	err  error
}

func (e *dialError) Error() string { return e.err.Error() }

// dial remembers who did not answer, for when a mirror's answer is reported.
func (r *registry) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := r.store.dial(ctx, network, addr)
	var silent *dialError
	if errors.As(err, &silent) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.silent = append(r.silent, addr)
	}
	if err != nil {
		return nil, err
	}
	return &liveConn{conn, r.store.stall}, nil
}

// liveConn fails a read that waits too long for a byte, so that a download
// from a registry that has gone silent is tried again instead of hanging.
type liveConn struct {
	net.Conn
	stall time.Duration
}

func (c *liveConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// dialRegistry opens a connection.
func dialRegistry(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil && ctx.Err() == nil {
		return nil, &dialError{addr, err}
	}
	return conn, err
}
