package cluster_test

import (
	"context"
	"errors"
	"testing"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

var errDisk = errors.New("disk is gone")

type brokenVolumes struct{}

func (brokenVolumes) VolumeNames() (map[string]bool, error) { return nil, errDisk }

// A list of volumes that cannot be read is no list without volumes: it would
// refuse external ones as missing.
func TestAnUnreadableListOfVolumesIsAnError(t *testing.T) {
	m, err := cluster.Open(cluster.Config{DataDir: t.TempDir(), Subnets: picker{}, Volumes: brokenVolumes{}, Node: stack.Node{Hostname: "one", OS: "linux"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, _, err := m.ApplyStack(context.Background(), stack.Stack{Name: "shop"}, plan.Options{}, true); !errors.Is(err, errDisk) {
		t.Errorf("apply: %v, want %v", err, errDisk)
	}
}
