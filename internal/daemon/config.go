package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/dhow-project/dhow/overlaynet/ipam"
	"github.com/dhow-project/dhow/stack"
)

// Defaults of Config.
const (
	DefaultDataDir = "/var/lib/dhow"
	DefaultRunDir  = "/run/dhow"
	DefaultGroup   = "dhow"
)

// Config of a daemon.
type Config struct {
	DataDir string // survives a reboot: state, containers, images, volumes
	RunDir  string // sockets, bundles, namespaces: may be lost at a reboot
	Socket  string // "": RunDir/dhow.sock
	Group   string // of the socket; a group that does not exist leaves it to root

	Shim           string            // path of dhow-shim; "": beside this program, then PATH
	Runtimes       map[string]string // OCI runtimes by name: path
	DefaultRuntime string            // "": runc
	CgroupParent   string

	Mirrors            map[string][]string // registry host -> base URLs asked first
	InsecureRegistries []string
	CertsDirs          []string // with HOST/ca.crt of registries; nil: the usual ones
	AddressPools       []string // "10.100.0.0/16,24": base and size of each subnet
	DNSForward         []string // "corp.example=10.0.0.53,10.0.0.54": resolvers that know a domain's names

	Labels     map[string]string // engine labels, for placement
	Generic    map[string]int64  // what else this machine has for tasks, by kind: gpu, license
	GossipPort int               // where nodes tell each other who is alive; 0: the default

	Version string
	Log     *slog.Logger
	Ready   func() // called when the socket answers; nil: nobody wants to know
}

func (c Config) withDefaults() (Config, error) {
	set := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	set(&c.DataDir, DefaultDataDir)
	set(&c.RunDir, DefaultRunDir)
	for _, p := range []*string{&c.DataDir, &c.RunDir} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return c, err
		}
		*p = abs
	}
	set(&c.Socket, filepath.Join(c.RunDir, "dhow.sock"))
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Shim == "" {
		path, err := findShim()
		if err != nil {
			return c, err
		}
		c.Shim = path
	}
	if os.Geteuid() != 0 {
		return c, errors.New("the daemon needs root: it makes containers, networks and mounts")
	}
	return c, nil
}

func findShim() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if beside := filepath.Join(filepath.Dir(self), "dhow-shim"); executable(beside) {
		return beside, nil
	}
	path, err := exec.LookPath("dhow-shim")
	if err != nil {
		return "", fmt.Errorf("dhow-shim is neither beside %s nor in PATH: install both programs together, or name it with --shim", self)
	}
	return path, nil
}

func executable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

// forward parses DNSForward; a domain that is there again has more resolvers.
func (c Config) forward() (map[string][]string, error) {
	out := map[string][]string{}
	for _, text := range c.DNSForward {
		domain, list, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("forward names: %s: use DOMAIN=ADDRESS such as corp.example=10.0.0.53", text)
		}
		domain = strings.ToLower(strings.TrimSuffix(domain, "."))
		servers := strings.Split(list, ",")
		if err := stack.CheckForward(domain, servers); err != nil {
			return nil, fmt.Errorf("forward names: %s: %w", text, err)
		}
		out[domain] = append(out[domain], servers...)
	}
	return out, nil
}

// pools parses AddressPools; none gives the default ones.
func (c Config) pools() ([]ipam.Pool, error) {
	if len(c.AddressPools) == 0 {
		return ipam.DefaultPools(), nil
	}
	var out []ipam.Pool
	for _, s := range c.AddressPools {
		p, err := ipam.ParsePool(s)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}
