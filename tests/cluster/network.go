package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// mirror is a program for python:3 that answers each request with where it runs
// and from where it was asked: "TASK CLIENT". /slow sends one line each half second.
const mirror = `
import http.server, socket, os, time
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        a = self.client_address[0]
        if a.startswith("::ffff:"): a = a[7:]
        body = (os.environ.get("ME", socket.gethostname()) + " " + a + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
class S(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if os.path.exists("/proc/net/if_inet6") else socket.AF_INET
    request_queue_size = 128
    def server_bind(self):
        if self.address_family == socket.AF_INET6: self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()
S(("", 80), H).serve_forever()
`

// python is a Compose command that runs a program for python:3.
func python(program string) string {
	return "[python3, -u, -c, " + quoted(program) + "]"
}

// quoted is a YAML string in double quotes, with Compose's dollars kept.
func quoted(s string) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "$", "$$").Replace(s)
	return `"` + s + `"`
}

// Listens waits until the containers of services listen on a TCP port: a program
// that has just been started does so a moment later, and without a health check
// nobody waits for that.
func (c *C) Listens(stackName, port string, services ...string) {
	c.Helper()
	for _, h := range c.Hosts {
		list, err := c.On(h, stackName)
		if err != nil {
			c.Fatal(err)
		}
		for _, ct := range list {
			if !slices.Contains(services, ct.Labels["com.docker.compose.service"]) {
				continue
			}
			netlab.Eventually(c, 10*time.Second, ct.Place()+" on "+h.Name+" listens", func() error {
				return listens(h.NamespaceOf(ct.ID), port)
			})
		}
	}
}

// listens is nil when somebody in a namespace does.
func listens(namespace, port string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := Asker{Namespace: namespace}.dial(ctx, "tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	return conn.Close()
}

// In runs a program in a service's container on a host.
func (c *C) In(h *netlab.Host, service string, program ...string) netlab.Result {
	return c.Try(c.Hosts[0], append([]string{"exec", "-T", "--node", h.Name, service}, program...)...)
}

// Says runs a program in a service's container on a host until it prints want.
func (c *C) Says(limit time.Duration, h *netlab.Host, service, want string, program ...string) {
	c.Helper()
	netlab.Eventually(c, limit, fmt.Sprintf("%s on %s: %s says %q", service, h.Name, strings.Join(program, " "), want), func() error {
		r := c.In(h, service, program...)
		if err := r.Err(); err != nil {
			return err
		}
		if !strings.Contains(r.Stdout, want) {
			return fmt.Errorf("it says %q", r.Stdout)
		}
		return nil
	})
}
