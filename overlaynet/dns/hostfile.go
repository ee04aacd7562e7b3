package dns

import (
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const stubFile = "/run/systemd/resolve/resolv.conf"

// hostFile is the host's list of resolvers.
type hostFile struct {
	path string

	mu    sync.Mutex
	mtime time.Time // guarded by mu: of path when list was read
	list  []string  // guarded by mu: "10.0.0.1:53"
}

// servers returns the host's resolvers, read again when the file has changed.
// Behind the local stub of systemd-resolved come the servers that it uses,
// for a daemon whose namespace the stub does not serve.
func (f *hostFile) servers() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	st, err := os.Stat(f.path)
	if err != nil {
		return f.list
	}
	if f.list != nil && st.ModTime().Equal(f.mtime) {
		return f.list
	}
	list := nameservers(f.path)
	if slices.ContainsFunc(list, func(s string) bool { return strings.HasPrefix(s, "127.") }) {
		list = append(list, nameservers(stubFile)...)
	}
	f.list, f.mtime = list, st.ModTime()
	return list
}

func nameservers(path string) (out []string) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "nameserver" {
			out = append(out, withPort(f[1]))
		}
	}
	return out
}

func withPort(s string) string {
	if _, _, err := net.SplitHostPort(s); err == nil {
		return s
	}
	return net.JoinHostPort(s, "53")
}
