package cluster_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/agent"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// After the state was lost, the containers that a stack had are replaced by
// its next up; what is another's stays, and its name is told.
func TestContainersOfALostStateMakeRoom(t *testing.T) {
	w := newWorld(t)
	w.up(shop(svc("web", "web:1", 1)))
	w.until("web runs", ready)
	before := w.ids()["shop-web-1"]
	w.stop()
	must(t, os.RemoveAll(w.dir))
	w.start()
	if got := w.ids()["shop-web-1"]; got != before {
		t.Fatalf("the container went before anybody asked: %q, was %q", got, before)
	}
	w.up(shop(svc("web", "web:1", 1)))
	w.until("web runs again", ready)
	if got := w.ids()["shop-web-1"]; got == before || got == "" {
		t.Errorf("container %q, was %q", got, before)
	}
	for name, labels := range map[string]map[string]string{
		"another stack of a lost state": {agent.LabelTask: "t", agent.LabelCluster: "lost", "com.docker.compose.project": "elsewhere"},
		"a container without a task":    {"com.docker.compose.project": "shop"},
	} {
		id, _, err := w.engine.Create(context.Background(), "shop-db-1", stack.ContainerSpec{Image: "db:1", Labels: labels})
		must(t, err)
		w.up(shop(svc("web", "web:1", 1), svc("db", "db:1", 1)))
		w.until(name+" keeps its name", func(st cluster.StackStatus) bool {
			return strings.Contains(service(st, "db").Message, "in use by container "+id)
		})
		must(t, w.engine.Remove(context.Background(), id, runtime.RemoveOptions{Force: true}))
		w.up(shop(svc("web", "web:1", 1)), plan.Options{RemoveOrphans: true})
		w.until("db is gone", func(st cluster.StackStatus) bool { return len(st.Services) == 1 && ready(st) })
	}
}
