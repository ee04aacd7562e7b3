package cluster_test

import (
	"context"
	"testing"
	"time"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
)

// A container gets no new requests from before it is told to go.
func TestAContainerThatGoesIsWithdrawnFirst(t *testing.T) {
	w := newWorld(t)
	w.stop()
	w.drain = time.Hour
	w.start()
	w.up(shop(svc("web", "web:1", 2)))
	w.until("both run", ready)
	must(t, w.m.Scale(context.Background(), "shop", map[string]int{"web": 1}))
	w.until("the second is withdrawn, and runs", func(cluster.StackStatus) bool {
		c, err := w.engine.Inspect(context.Background(), "shop-web-2")
		return err == nil && c.State.Status == runtime.Running && !w.engine.Serves("shop-web-2")
	})
	if !w.engine.Serves("shop-web-1") {
		t.Error("the one that stays was withdrawn too")
	}
	must(t, w.m.Scale(context.Background(), "shop", map[string]int{"web": 2}))
	w.until("it serves again", func(cluster.StackStatus) bool { return w.engine.Serves("shop-web-2") })
}
