package image

import (
	"log/slog"
	"sync"

	"github.com/dhow-project/dhow/internal/logins"
)

// credentials are the logins that this node's own account has.
type credentials struct {
	path string // of config.json; "": where docker has it
	log  *slog.Logger

	mu   sync.Mutex
	user string // last one handed out, for error messages; guarded by mu
	err  error  // why there were none; guarded by mu
}

// get returns user and password for a registry's host, or an empty user and a
// token; all empty when there are none. A broken helper does not stop a pull
// that may need no credentials: the reason is kept for when it does.
func (c *credentials) get(host string) (user, secret string, _ error) {
	path := c.path
	if path == "" {
		path = logins.Path()
	}
	a, _, err := logins.Get(path, host)
	if err != nil {
		c.log.Warn("registry credentials", "host", host, "err", err)
	}
	user, secret = split(a.Username, a.Password, a.IdentityToken)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.user, c.err = user, err
	return user, secret, nil
}

// split puts credentials into the form the authorizer wants: a token has no user.
func split(user, password, identityToken string) (string, string) {
	if identityToken != "" {
		return "", identityToken
	}
	return user, password
}

// state returns the user last handed out and why there was none.
func (c *credentials) state() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.user, c.err
}
