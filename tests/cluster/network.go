package cluster

import (
	"fmt"
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
