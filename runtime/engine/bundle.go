package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/oci"
	"github.com/dhow-project/dhow/volumes"
)

type prepared = volumes.Prepared

// writeSpec writes the files of the container's own and the bundle's config.json.
func (b *bundle) writeSpec(ctx context.Context) error {
	mounts, err := b.ownMounts()
	if err != nil {
		return err
	}
	in := oci.Input{
		ID: b.c.id, Spec: b.rec.Spec, Image: b.rec.Image, Rootfs: b.e.rootfs(b.c.id), Hostname: b.hostname(),
		Mounts: mounts, NetNS: b.share.netNS, PIDNS: b.share.pidNS, IPCNS: b.share.ipcNS, ShmPath: b.share.shm,
		CgroupPath: b.e.cgroupPath(b.rec), InitPath: b.e.cfg.Init, Facts: b.e.facts,
	}
	if b.net != nil {
		in.NetNS = b.net.NetNS
	}
	if b.rec.Spec.IPCMode == "shareable" {
		in.ShmPath = filepath.Join(b.dir, "shm")
	}
	spec, _, err := oci.Spec(in)
	if err != nil {
		return err
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	b.run = &run{done: make(chan struct{}), lost: make(chan struct{}), process: spec.Process}
	return os.WriteFile(filepath.Join(b.dir, "config.json"), data, 0o600)
}

// ownMounts are volumes, network files, secrets and the shareable /dev/shm.
func (b *bundle) ownMounts() ([]oci.Mount, error) {
	var out []oci.Mount
	taken := map[string]bool{}
	for _, p := range b.vols {
		taken[path.Clean(p.Mount.Target)] = true
		out = append(out, oci.Mount{Type: p.Type, Source: p.Source, Target: p.Mount.Target, Options: p.Options, Propagation: p.Mount.Propagation})
	}
	files := b.share.files
	if files == "" {
		files = b.dir
		if err := b.writeNetworkFiles(); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
		if target := "/etc/" + name; !taken[target] {
			out = append(out, oci.Mount{Type: "bind", Source: filepath.Join(files, name), Target: target, Options: []string{"bind", "rprivate"}})
		}
	}
	secrets, err := b.secretMounts()
	if err != nil {
		return nil, err
	}
	out = append(out, secrets...)
	return out, b.makeShm()
}

func (b *bundle) hostname() string {
	if h := b.rec.Spec.Hostname; h != "" || b.rec.Spec.UTSMode == "host" {
		return h
	}
	if b.rec.Spec.NetworkMode == "host" {
		h, _ := os.Hostname()
		return h
	}
	return short(b.c.id)
}

// prepareVolumes asks for the container's mounts and those it takes from others.
func (b *bundle) prepareVolumes(ctx context.Context) error {
	mounts, err := b.e.withVolumesFrom(ctx, b.rec)
	if err != nil || len(mounts) == 0 {
		return err
	}
	b.vols, err = b.e.cfg.Volumes.Prepare(ctx, b.c.id, mounts, b.e.rootfs(b.c.id))
	if err != nil {
		return err
	}
	b.e.keepMounts(b.c, b.vols)
	return nil
}

// keepMounts remembers how the mounts came out, for inspect and for others'
// volumes_from. The state is saved when the start is.
func (e *Engine) keepMounts(c *container, vols []prepared) {
	points := make([]runtime.MountPoint, 0, len(vols))
	for _, p := range vols {
		points = append(points, p.Point)
	}
	c.mu.Lock()
	c.st.Mounts = points
	c.mu.Unlock()
}

// cgroupPath of a container: PARENT/ID.
func (e *Engine) cgroupPath(rec record) string {
	parent := e.cgroupParent()
	if p := rec.Spec.CgroupParent; p != "" {
		parent = path.Join("/", p)
	}
	return parent + "/" + rec.ID
}

// writeNetworkFiles writes hosts, hostname and resolv.conf.
func (b *bundle) writeNetworkFiles() error {
	for name, text := range map[string]string{"hosts": b.hosts(), "hostname": b.hostname() + "\n", "resolv.conf": b.resolvConf()} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (b *bundle) hosts() string {
	s := b.rec.Spec
	var w strings.Builder
	if s.NetworkMode == "host" {
		host, _ := os.ReadFile("/etc/hosts")
		w.Write(host)
		if w.Len() > 0 && !strings.HasSuffix(w.String(), "\n") {
			w.WriteByte('\n')
		}
	} else {
		w.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	}
	for _, extra := range s.ExtraHosts {
		if name, addr, ok := splitHost(extra); ok {
			if addr == "host-gateway" {
				addr = b.hostGateway()
			}
			fmt.Fprintf(&w, "%s\t%s\n", addr, name)
		}
	}
	if b.net != nil {
		for _, ep := range b.net.Endpoints {
			w.WriteString(b.ownHosts(ep))
		}
	}
	return w.String()
}

// ownHosts are the lines of the container's own hostname in one network.
func (b *bundle) ownHosts(ep runtime.Endpoint) string {
	names := b.rec.Spec.Hostname
	if names == "" {
		return ""
	}
	if d := b.rec.Spec.Domainname; d != "" {
		names = names + "." + d + " " + names
	}
	var w strings.Builder
	for _, a := range []string{ep.IPv4, ep.IPv6} {
		if addr, _, _ := strings.Cut(a, "/"); addr != "" {
			fmt.Fprintf(&w, "%s\t%s\n", addr, names)
		}
	}
	return w.String()
}

// splitHost reads "name:address" and "name=address"; the address may be IPv6.
func splitHost(s string) (name, addr string, ok bool) {
	i := strings.IndexAny(s, ":=")
	if i <= 0 {
		return "", "", false
	}
	return s[:i], strings.Trim(s[i+1:], "[]"), true
}

// hostGateway is the host's address as the container sees it.
func (b *bundle) hostGateway() string {
	if b.net != nil {
		for _, ep := range b.net.Endpoints {
			if ep.Gateway != "" {
				return ep.Gateway
			}
		}
	}
	return "127.0.0.1"
}

// resolvConf names the resolver of the container's networks; where there is
// none (host mode), the servers that are asked for or the host's own.
func (b *bundle) resolvConf() string {
	host, s := hostResolvConf(), b.rec.Spec
	ours := b.net != nil && len(b.net.Nameservers) > 0
	if !ours && len(s.DNS) == 0 && s.DNSSearch == nil && s.DNSOptions == nil {
		return host
	}
	servers, search, options := s.DNS, s.DNSSearch, s.DNSOptions
	switch {
	case ours:
		servers = b.net.Nameservers
	case len(servers) == 0:
		servers = resolvWords(host, "nameserver")
	}
	if search == nil {
		search = hostSearch(host)
	}
	if options == nil {
		options = resolvWords(host, "options")
	}
	if ours && !slices.ContainsFunc(s.DNSOptions, isNdots) {
		// A service's name has no dot, and must be asked for before names in the search domains.
		options = append(slices.DeleteFunc(slices.Clone(options), isNdots), "ndots:0")
	}
	var w strings.Builder
	for _, n := range servers {
		fmt.Fprintf(&w, "nameserver %s\n", n)
	}
	if len(search) > 0 && !(len(search) == 1 && search[0] == ".") {
		fmt.Fprintf(&w, "search %s\n", strings.Join(search, " "))
	}
	if len(options) > 0 {
		fmt.Fprintf(&w, "options %s\n", strings.Join(options, " "))
	}
	return w.String()
}

func isNdots(option string) bool { return strings.HasPrefix(option, "ndots:") }

// hostSearch is the host's list of search domains; "domain" is an older word for a list of one.
func hostSearch(conf string) []string {
	if list := resolvWords(conf, "search"); list != nil {
		return list
	}
	return resolvWords(conf, "domain")
}

// hostResolvConf prefers systemd-resolved's list of real servers to its stub,
// which cannot be reached from a container.
func hostResolvConf() string {
	text, _ := os.ReadFile("/etc/resolv.conf")
	if servers := resolvWords(string(text), "nameserver"); len(servers) == 1 && servers[0] == "127.0.0.53" {
		if real, err := os.ReadFile("/run/systemd/resolve/resolv.conf"); err == nil {
			text = real
		}
	}
	return string(text)
}

func resolvWords(text, key string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key {
			if key != "nameserver" {
				out = nil
			}
			out = append(out, f[1:]...)
		}
	}
	return out
}
