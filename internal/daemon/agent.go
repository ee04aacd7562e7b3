package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/agent"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes"
)

func (n *node) openAgent(context.Context) error {
	n.agent = agent.New(agent.Config{
		Node: n.cluster.NodeID(), Cluster: n.cluster.ID(), Source: n.cluster, Engine: n.engine, Images: n.images,
		Volumes: stackVolumes{n.volumes}, Events: n.bus, Log: n.cfg.Log.With("part", "agent"),
	})
	return nil
}

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
