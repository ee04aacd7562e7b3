package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	goruntime "runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dhow-project/dhow/api/server"
	"github.com/dhow-project/dhow/cluster/port"
)

// grace is how long requests may take to finish when the daemon ends.
const grace = 5 * time.Second

// Run is a daemon from start to end of ctx. Containers are taken over at the
// start and left running at the end.
func Run(ctx context.Context, cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	for _, dir := range []struct {
		path string
		mode os.FileMode
	}{{cfg.DataDir, 0o700}, {cfg.RunDir, 0o711}} { // who may use the socket has to reach it
		if err := os.MkdirAll(dir.path, dir.mode); err != nil {
			return err
		}
		held, err := lock(dir.path)
		if err != nil {
			return err
		}
		defer held.Close()
	}
	if err := cfg.makePrivate(); err != nil {
		return err
	}
	started := time.Now()
	n, err := open(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() {
		if err := n.close(); err != nil {
			cfg.Log.Error("close", "error", err)
		}
	}()
	listener, err := server.Listen(cfg.Socket)
	if err != nil {
		return err
	}
	cfg.Log.Info("daemon is ready", "socket", cfg.Socket, "data", cfg.DataDir, "version", cfg.Version, "took", time.Since(started))
	return n.run(ctx, listener, started)
}

// run holds the node's loops together: the first that ends with an error ends all.
func (n *node) run(ctx context.Context, l net.Listener, started time.Time) error {
	left, err := n.backups.Interrupted()
	if err != nil {
		n.cfg.Log.Error("read what a backup paused", "error", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return named("cluster", n.cluster.Run(ctx)) })
	g.Go(func() error { return named("inventory", n.tellInventory(ctx)) })
	g.Go(func() error { return named("facts", n.tellFacts(ctx)) })
	g.Go(func() error { return named("network", n.network.Run(ctx)) })
	g.Go(func() error { return named("network events", n.tellNetworks(ctx)) })
	g.Go(func() error { return named("engine", n.engine.Run(ctx)) })
	api := server.New(n.api(started))
	n.cluster.Serve(n.forNodes(api))
	g.Go(func() error { return named("api", server.Serve(ctx, l, api, grace)) })
	if n.cfg.Ready != nil {
		n.cfg.Ready()
	}
	if err := notify("READY=1"); err != nil {
		n.cfg.Log.Warn("tell systemd", "error", err)
	}
	if err := left.Resume(ctx); err != nil {
		n.cfg.Log.Error("resume containers that a backup paused", "error", err)
	}
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// named adds which part ended; the end of ctx is no error.
func named(part string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%s: %w", part, err)
}

// forNodes is what other nodes may ask of this one: what their users ask of the
// cluster or of a container here, and its images.
func (n *node) forNodes(api http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/forward/", server.Forwarded(api, func(r *http.Request) (string, bool) {
		p, ok := port.PeerOf(r)
		return p.Node, ok && n.cluster.MayAsk(p.Node)
	}))
	mux.Handle("/v2/", n.images.Handler())
	return mux
}

func (n *node) api(started time.Time) server.Config {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return server.Config{
		Engine: n.engine, Images: n.images, Volumes: n.volumes, Networks: n.cluster, Stacks: n.cluster, Cluster: n.cluster,
		Backups: n.backups, Bus: n.bus, Log: n.cfg.Log.With("part", "api"), Layers: n.layers, Host: newHostCheck(),
		Facts: server.Facts{
			NodeID: n.cluster.Self(), Hostname: host, Version: n.cfg.Version, DataDir: n.cfg.DataDir, RunDir: n.cfg.RunDir,
			Started: started, Runtimes: n.cfg.Runtimes, DefaultRuntime: n.cfg.DefaultRuntime,
			Labels:      append([]string{"os=" + goruntime.GOOS, "arch=" + goruntime.GOARCH}, pairs(n.cfg.Labels)...),
			WarningsNow: n.network.Warnings,
		},
	}
}

// layers fits server.Config.Layers.
func (n *node) layers(ctx context.Context) (total int64, shared map[string]int64, err error) {
	u, err := n.images.DiskUsage(ctx)
	if err != nil {
		return 0, nil, err
	}
	shared = map[string]int64{}
	for _, i := range u.Images {
		shared[i.ID] = i.Shared
	}
	return u.Layers, shared, nil
}

// pairs are KEY=VALUE, sorted.
func pairs(m map[string]string) (out []string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return out
}
