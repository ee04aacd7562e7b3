package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"

	"github.com/dhow-project/dhow/runtime"
)

// explain turns what a registry conversation failed with into what a person
// can act on.
func (r *registry) explain(err error) error {
	var dial *dialError
	var status remoteerrors.ErrUnexpectedStatus
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &dial):
		return fmt.Errorf("registry %s does not answer: %w; check the network, or bring the image as a file with `dhow load -i FILE`", r.where(dial.addr), dial)
	case errors.As(err, &unknown):
		return fmt.Errorf("registry %s: %w; put the authority that signed its certificate into %s/%s/ca.crt", r.domain, unknown, append(r.store.certsDirs(), defaultCertsDirs...)[0], r.domain)
	case errors.As(err, &hostname):
		return fmt.Errorf("registry %s: %w", r.domain, hostname)
	case errors.As(err, &plain), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Errorf("registry %s speaks plain http; list it as an insecure registry to allow that: %w", r.domain, err)
	case errors.As(err, &status):
		return r.explainStatus(status)
	case errors.Is(err, docker.ErrInvalidAuthorization), strings.Contains(err.Error(), "failed to fetch oauth token"), strings.Contains(err.Error(), "failed to fetch anonymous token"):
		return r.denied(err.Error())
	case errors.Is(err, runtime.ErrNotFound), errors.Is(err, runtime.ErrInvalid), errors.Is(err, runtime.ErrUnavailable):
		return err
	case errdefs.IsNotFound(err):
		return r.notFound()
	}
	return err
}

// notFound says who does not have the image, and who was not there to be asked.
func (r *registry) notFound() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.silent) > 0 && len(r.store.cfg.Mirrors[r.domain]) > 0 {
		return fmt.Errorf("no mirror of %s has such an image, and %s does not answer: %w", r.domain, strings.Join(r.silent, ", "), runtime.ErrNotFound)
	}
	return fmt.Errorf("registry %s has no such image: %w", r.domain, runtime.ErrNotFound)
}

func (r *registry) explainStatus(e remoteerrors.ErrUnexpectedStatus) error {
	switch e.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return r.denied(e.Status)
	case http.StatusTooManyRequests:
		return fmt.Errorf("registry %s limits the rate of pulls: %s; wait, log in with `docker login %s`, or set up a mirror", r.domain, e.Status, r.domain)
	case http.StatusNotFound:
		return r.notFound()
	}
	body := strings.TrimSpace(string(e.Body))
	if len(body) > 200 {
		body = body[:200]
	}
	if body != "" {
		body = ": " + body
	}
	return fmt.Errorf("registry %s answered %s to %s %s%s", r.domain, e.Status, e.RequestMethod, e.RequestURL, body)
}

func (r *registry) denied(why string) error {
	user, broken := r.creds.state()
	if r.auth != nil {
		user = r.auth.Username
	}
	who := "without credentials"
	if user != "" {
		who = "as " + user
	} else if r.auth != nil {
		who = "with the token given"
	}
	hint := fmt.Sprintf("the image may not exist, or `docker login %s` is needed", r.domain)
	if broken != nil {
		hint += fmt.Sprintf(" (credentials could not be read: %v)", broken)
	}
	return fmt.Errorf("registry %s denies access %s: %s; %s: %w", r.domain, who, why, hint, runtime.ErrForbidden)
}

// where names the registry and, if it differs, the address that was tried.
func (r *registry) where(addr string) string {
	if host, _, _ := strings.Cut(addr, ":"); host == r.domain || addr == r.domain {
		return addr
	}
	return fmt.Sprintf("%s (at %s)", r.domain, addr)
}

func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// explainDisk names the place when a disk is full.
func (s *Store) explainDisk(err error) error {
	if !isDiskFull(err) {
		return err
	}
	return fmt.Errorf("no space left in %s; free some with `dhow system prune` or move the data directory: %w", s.cfg.DataDir, err)
}

// isPassing tells failures that may be gone at the next attempt.
func isPassing(ctx context.Context, err error) bool {
	if ctx.Err() != nil || isDiskFull(err) {
		return false
	}
	var status remoteerrors.ErrUnexpectedStatus
	if errors.As(err, &status) {
		return status.StatusCode >= 500 || status.StatusCode == http.StatusTooManyRequests
	}
	var dial *dialError
	var network net.Error
	return errors.As(err, &dial) || errors.As(err, &network) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// resumable tells whether a failed pull may go on later with what it has.
func resumable(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, context.Canceled) || errors.Is(err, runtime.ErrUnavailable) || isPassing(context.WithoutCancel(ctx), err)
}
