package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/cluster"
	member "github.com/dhow-project/dhow/cluster/node"
	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/dns"
	"github.com/dhow-project/dhow/overlaynet/lb"
	"github.com/dhow-project/dhow/overlaynet/link"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/engine"
	"github.com/dhow-project/dhow/runtime/events"
	"github.com/dhow-project/dhow/runtime/image"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes"
	"github.com/dhow-project/dhow/volumes/backup"
	"github.com/dhow-project/dhow/volumes/backup/dirrepo"
	"github.com/dhow-project/dhow/volumes/bind"
	"github.com/dhow-project/dhow/volumes/local"
	"github.com/dhow-project/dhow/volumes/tmpfs"
)

// node is the opened parts of one daemon, in the order in which they need each other.
type node struct {
	cfg     Config
	bus     *events.Bus
	images  *image.Store
	volumes *volumes.Manager
	links   *link.Links
	cluster *member.Node
	ports   *lb.Ports
	network *overlaynet.Manager
	engine  *engine.Engine
	backups *backup.Service
	closers []func() error // in the order of opening
}

// open opens all parts; on an error those that are open are closed again.
func open(ctx context.Context, cfg Config) (*node, error) {
	n := &node{cfg: cfg, bus: events.New()}
	for _, step := range []struct {
		name string
		open func(context.Context) error
	}{
		{"images", n.openImages}, {"volumes", n.openVolumes}, {"cluster", n.openCluster},
		{"network", n.openNetwork}, {"engine", n.openEngine},
	} {
		if err := step.open(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("open %s: %w", step.name, err), n.close())
		}
	}
	return n, nil
}

func (n *node) close() error {
	var errs []error
	for i := len(n.closers) - 1; i >= 0; i-- {
		errs = append(errs, n.closers[i]())
	}
	n.closers = nil
	return errors.Join(errs...)
}

func (n *node) openImages(context.Context) (err error) {
	n.images, err = image.Open(image.Config{
		DataDir: filepath.Join(n.cfg.DataDir, "images"), Log: n.cfg.Log.With("part", "image"),
		Mirrors: n.cfg.Mirrors, InsecureRegistries: n.cfg.InsecureRegistries, CertsDirs: n.cfg.CertsDirs,
		InUse: n.imageUsers, Publish: n.bus.Publish, Peers: imagePeers{n},
	})
	if err == nil {
		n.closers = append(n.closers, n.images.Close)
	}
	return err
}

// imageUsers names the containers by the image that they use.
func (n *node) imageUsers() (map[string][]string, error) {
	if n.engine == nil {
		return nil, errors.New("containers are not loaded yet")
	}
	list, err := n.engine.List(context.Background(), runtime.Filter{All: true})
	users := map[string][]string{}
	for _, c := range list {
		users[c.ImageID] = append(users[c.ImageID], c.Name)
	}
	return users, err
}

func (n *node) openVolumes(context.Context) (err error) {
	n.volumes, err = volumes.Open(volumes.Config{
		DataDir: n.cfg.DataDir, RunDir: n.cfg.RunDir, Log: n.cfg.Log.With("part", "volumes"),
		Drivers: map[string]volumes.Driver{volumes.DefaultDriver: local.New()},
		Makers:  map[stack.MountType]volumes.Maker{stack.MountBind: bind.New(), stack.MountTmpfs: tmpfs.New()},
		Images:  n.images, Publish: n.bus.Publish, UserName: n.containerName,
	})
	return err
}

// containerName is the name of a container, or its ID when it has gone.
func (n *node) containerName(id string) string {
	if n.engine != nil {
		if c, err := n.engine.Inspect(context.Background(), id); err == nil {
			return c.Name
		}
	}
	return id
}

func (n *node) openCluster(ctx context.Context) (err error) {
	pools, err := n.cfg.pools()
	if err != nil {
		return err
	}
	if n.links, err = link.New(link.Config{RunDir: n.cfg.RunDir, Log: n.cfg.Log.With("part", "link")}); err != nil {
		return err
	}
	n.closers = append(n.closers, n.links.Close)
	self, err := thisNode()
	if err != nil {
		return err
	}
	self.Version, self.EngineLabels, self.Generic = n.cfg.Version, n.cfg.Labels, n.cfg.Generic
	log := n.cfg.Log.With("part", "cluster")
	n.cluster, err = member.Open(ctx, member.Config{
		DataDir: n.cfg.DataDir, Facts: self, Log: log, GossipPort: n.cfg.GossipPort,
		Manager: cluster.Config{
			Log: log, Subnets: subnets{pools: pools, avoid: n.links.Avoid}, Images: n.images, Resolver: n.images, Volumes: volumeNames{n.volumes}, Host: newHostCheck(),
			DrainGrace: cluster.DefaultDrainGrace,
		},
		Agent: n.runAgent, Lease: filepath.Join(n.cfg.RunDir, "lease"), Drop: n.dropTasks, Inventory: n.inventory, Ours: virtual,
		PortsTaken: func(list []stack.Port) []string { return portsTaken(n.ports, list) },
		MTU:        n.links.MTUOf, Ranges: n.links.Avoid, Addrs: n.links.Addrs, Problems: func() []string { return n.network.Problems() },
		Plain: func() []string { return n.network.Plain() },
	})
	if err == nil {
		n.closers = append(n.closers, n.cluster.Close)
	}
	return err
}

// virtual tells the interfaces that programs like this one make for containers:
// no other machine is reached by their addresses.
func virtual(name string) bool {
	for _, prefix := range []string{"dh", "docker", "br-", "veth", "cni", "virbr"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// thisNode is what the scheduler knows of this machine.
func thisNode() (stack.Node, error) {
	host, err := os.Hostname()
	if err != nil {
		return stack.Node{}, err
	}
	var mem unix.Sysinfo_t
	if err := unix.Sysinfo(&mem); err != nil {
		return stack.Node{}, fmt.Errorf("read the size of memory: %w", err)
	}
	return stack.Node{
		Hostname: host, OS: goruntime.GOOS, Architecture: goruntime.GOARCH,
		NanoCPUs: int64(goruntime.NumCPU()) * 1e9, Memory: int64(mem.Totalram) * int64(mem.Unit),
	}, nil
}

// volumeNames fits cluster.VolumeNames.
type volumeNames struct{ m *volumes.Manager }

func (v volumeNames) VolumeNames() (map[string]bool, error) {
	list, err := v.m.List(context.Background())
	if err != nil {
		return nil, err
	}
	names := make(map[string]bool, len(list))
	for _, vol := range list {
		names[vol.Name] = true
	}
	return names, nil
}

func (n *node) openNetwork(context.Context) error {
	log := n.cfg.Log.With("part", "network")
	domains, err := n.cfg.forward()
	if err != nil {
		return err
	}
	n.ports = lb.NewPorts(log)
	names := dns.New(dns.Config{Log: log, Forward: domains})
	n.closers = append(n.closers, names.Close)
	n.network = overlaynet.New(overlaynet.Options{
		RunDir: n.cfg.RunDir, Log: log, Source: source{n.cluster}, Links: n.links, Names: names,
		Rules: lb.New(lb.Config{RunDir: n.cfg.RunDir, Log: log}), Ports: n.ports,
	})
	return nil
}

func (n *node) openEngine(ctx context.Context) (err error) {
	n.engine, err = engine.Open(engine.Config{
		DataDir: filepath.Join(n.cfg.DataDir, "engine"), RunDir: n.cfg.RunDir, Shim: n.cfg.Shim,
		Runtimes: n.cfg.Runtimes, DefaultRuntime: n.cfg.DefaultRuntime, CgroupParent: n.cfg.CgroupParent,
		Log: n.cfg.Log.With("part", "engine"), Images: n.images, Networks: n.network, Volumes: n.volumes, Bus: n.bus,
	})
	if err != nil {
		return err
	}
	n.backups = backup.New(backup.Config{
		Volumes: n.volumes, Users: quiet{n.engine}, DataDir: n.cfg.DataDir,
		Engines: map[string]backup.Opener{"file": dirrepo.Open}, Log: n.cfg.Log.With("part", "backup"),
	})
	return nil
}

// quiet fits backup.Users: what is gone, or already as wanted, is no error.
type quiet struct{ e *engine.Engine }

func (q quiet) Running(ctx context.Context, id string) (bool, error) {
	c, err := q.e.Inspect(ctx, id)
	if errors.Is(err, runtime.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return c.State.Status == runtime.Running, nil
}

func (q quiet) Pause(ctx context.Context, id string) error { return q.e.Pause(ctx, id) }

func (q quiet) Unpause(ctx context.Context, id string) error {
	c, err := q.e.Inspect(ctx, id)
	if errors.Is(err, runtime.ErrNotFound) || err == nil && c.State.Status != runtime.Paused {
		return nil
	}
	if err != nil {
		return err
	}
	return q.e.Unpause(ctx, id)
}

// Stop gives a container its own stop_grace_period.
func (q quiet) Stop(ctx context.Context, id string) error {
	return ignore(q.e.Stop(ctx, id, "", nil), runtime.ErrNotModified, runtime.ErrNotFound)
}

func (q quiet) Start(ctx context.Context, id string) error {
	return ignore(q.e.Start(ctx, id), runtime.ErrNotModified, runtime.ErrNotFound)
}

func ignore(err error, fine ...error) error {
	for _, f := range fine {
		if errors.Is(err, f) {
			return nil
		}
	}
	return err
}
