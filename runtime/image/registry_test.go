package image

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/sirupsen/logrus"

	"github.com/dhow-project/dhow/runtime/image/imagetest"
)

func init() { logrus.SetOutput(io.Discard) } // the registry's words

// testRegistry is distribution's registry behind whatever a test puts before it.
type testRegistry struct {
	*httptest.Server
	open  *httptest.Server // the same without auth, for pushing
	mu    sync.Mutex
	asked []string                                          // method and path; guarded by mu
	front func(w http.ResponseWriter, r *http.Request) bool // true: it has answered; nil: none
}

func (r *testRegistry) host() string { return r.Listener.Addr().String() }

func (r *testRegistry) push(t testing.TB, repo, tag string, b imagetest.Built) {
	t.Helper()
	imagetest.Push(t, r.open.Client(), r.open.URL, repo, tag, b, nil)
}

func (r *testRegistry) requests(substr string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, a := range r.asked {
		if strings.Contains(a, substr) {
			n++
		}
	}
	return n
}

// newRegistry serves an empty registry on a loopback port.
func newRegistry(t testing.TB, secure bool) *testRegistry {
	t.Helper()
	c := &configuration.Configuration{Storage: configuration.Storage{"inmemory": {}}}
	c.Log.AccessLog.Disabled = true
	c.Log.Level = "error"
	c.Validation.Disabled = true
	app := handlers.NewApp(context.Background(), c)
	r := &testRegistry{open: httptest.NewServer(app)}
	h := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.asked = append(r.asked, req.Method+" "+req.URL.Path)
		front := r.front
		r.mu.Unlock()
		if front == nil || !front(w, req) {
			app.ServeHTTP(w, req)
		}
	})
	if secure {
		r.Server = httptest.NewUnstartedServer(h)
		r.Config.ErrorLog = discardLog()
		r.StartTLS()
	} else {
		r.Server = httptest.NewServer(h)
	}
	t.Cleanup(func() { r.Close(); r.open.Close() })
	return r
}

func (r *testRegistry) setFront(f func(http.ResponseWriter, *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.front = f
}

// basicAuth asks for user and password.
func basicAuth(user, password string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if u, p, _ := r.BasicAuth(); u == user && p == password {
			r.Header.Del("Authorization")
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}

// tokenAuth asks for a token that its own token service gives for a user and
// password, or for the refresh token "refresh".
func tokenAuth(user, password string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			u, p, _ := r.BasicAuth()
			if u == user && p == password || r.FormValue("refresh_token") == "refresh" {
				fmt.Fprint(w, `{"token":"good","access_token":"good"}`)
			} else {
				w.WriteHeader(http.StatusUnauthorized)
			}
			return true
		}
		if r.Header.Get("Authorization") == "Bearer good" {
			r.Header.Del("Authorization")
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test",scope="repository:x:pull"`, r.Host))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}

// routed makes a store reach names at loopback addresses, and nothing else.
func routed(s *Store, routes map[string]string) {
	s.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		to, ok := routes[addr]
		if !ok && strings.HasPrefix(addr, "127.0.0.1:") {
			to, ok = addr, true
		}
		if !ok {
			return nil, &dialError{addr, fmt.Errorf("dial %s %s: connection refused", network, addr)}
		}
		return dialRegistry(ctx, network, to)
	}
}

// trust writes the server's certificate into a certificate directory.
func trust(t testing.TB, dir, host string, r *testRegistry) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, host), 0o755); err != nil {
		t.Fatal(err)
	}
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(dir, host, "ca.crt"), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func dockerConfig(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func base64Auth(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}
