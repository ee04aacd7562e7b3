package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/agent"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes"
)

// runAgent runs the tasks that a cluster has for this node.
func (n *node) runAgent(ctx context.Context, self, cluster string, source agent.Source) error {
	return agent.New(agent.Config{
		Node: self, Cluster: cluster, Source: source, Engine: n.engine, Images: n.images,
		Volumes: stackVolumes{n.volumes}, Events: n.bus, Log: n.cfg.Log.With("part", "agent"),
	}).Run(ctx)
}

// dropTasks removes the containers of a cluster's tasks, with their grace to stop.
func (n *node) dropTasks(ctx context.Context, cluster string) error {
	list, err := n.engine.List(ctx, runtime.Filter{All: true, Labels: map[string]string{agent.LabelCluster: cluster}})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range list {
		g.Go(func() error {
			err := ignore(n.engine.Stop(ctx, c.ID, "", nil), runtime.ErrNotModified, runtime.ErrNotFound)
			if err == nil {
				err = ignore(n.engine.Remove(ctx, c.ID, runtime.RemoveOptions{Force: true}), runtime.ErrNotFound)
			}
			if err != nil {
				return fmt.Errorf("container %s: %w", c.Name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// inventory tells which images and volumes this node has.
func (n *node) inventory() (images, volumes []string, err error) {
	list, err := n.images.List(context.Background())
	if err != nil {
		return nil, nil, err
	}
	for _, i := range list {
		images = append(images, i.ID, i.Manifest)
		images = append(append(images, i.Tags...), i.Digests...)
		for _, ref := range i.Digests { // a pin has no name
			_, digest, _ := strings.Cut(ref, "@")
			images = append(images, digest)
		}
		for _, d := range i.Digests { // what a stack was pinned to says no name
			if _, bare, ok := strings.Cut(d, "@"); ok {
				images = append(images, bare)
			}
		}
	}
	slices.Sort(images)
	names, err := volumeNames{n.volumes}.VolumeNames()
	return slices.Compact(images), slices.Sorted(maps.Keys(names)), err
}

// tellInventory tells the cluster when this node has other images or volumes.
func (n *node) tellInventory(ctx context.Context) error {
	events := n.bus.Subscribe(ctx, time.Time{}, time.Time{})
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-events:
			if !ok {
				events = n.bus.Subscribe(ctx, time.Time{}, time.Time{})
				n.cluster.Refresh()
				break
			}
			if e.Type == "image" || e.Type == "volume" {
				n.cluster.Refresh()
			}
		}
	}
}

// imagePeers fits image.Peers: other nodes have images before there is a
// cluster to ask for them.
type imagePeers struct{ n *node }

func (p imagePeers) Peers(ctx context.Context, key string) []string {
	if p.n.cluster == nil {
		return nil
	}
	return p.n.cluster.Holders(ctx, key)
}
func (p imagePeers) Client(node string) *http.Client { return p.n.cluster.Client(node) }
func (p imagePeers) Name(node string) string         { return p.n.cluster.Name(node) }

// stackVolumes fits agent.Volumes.
type stackVolumes struct{ m *volumes.Manager }

func (s stackVolumes) Ensure(ctx context.Context, v stack.Volume) error {
	if v.External {
		if _, err := s.m.Inspect(ctx, v.Name); err != nil {
			return fmt.Errorf("external volume %s: %w", v.Name, err)
		}
		return nil
	}
	_, err := s.m.Create(ctx, volumes.Spec{Name: v.Name, Driver: v.Driver, Options: v.DriverOpts, Labels: v.Labels})
	return err
}

func (s stackVolumes) Discard(ctx context.Context, name string) error {
	v, err := s.m.Inspect(ctx, name)
	if err == nil && v.Anonymous {
		err = s.m.Remove(ctx, name, true)
	}
	var used *volumes.InUse
	if errors.As(err, &used) || errors.Is(err, runtime.ErrNotFound) {
		return nil
	}
	return err
}
