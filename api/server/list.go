package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
)

// sizer is an engine that knows what containers occupy on disk, in bytes.
type sizer interface {
	Usage(ctx context.Context, containerID string) (int64, error)
}

// sizes are the bytes of c's own layer, and of it and its image together.
func (s *server) sizes(ctx context.Context, c *runtime.Container) (rw, root int64, err error) {
	store, can := s.Images.(sizer)
	if !can {
		return 0, 0, nil
	}
	rw, err = store.Usage(ctx, c.ID)
	if err != nil && !errors.Is(err, runtime.ErrNotFound) { // never started, or gone meanwhile: nothing of its own
		return 0, 0, err
	}
	root = rw
	if img, err := s.Images.Image(ctx, c.ImageID, ""); err == nil { // an image that is gone has no size
		root += img.Size
	}
	return rw, root, nil
}

func (s *server) listContainers(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "ancestor", "before", "expose", "exited", "health", "id", "isolation", "is-task",
		"label", "name", "network", "publish", "since", "status", "volume")
	if err != nil {
		return err
	}
	limit := 0
	if raw := r.URL.Query().Get("limit"); raw != "" {
		if limit, err = strconv.Atoi(raw); err != nil {
			return invalid("limit: %q is not a number", raw)
		}
	}
	keep, err := s.containerFilter(r.Context(), f)
	if err != nil {
		return err
	}
	everything, err := s.Engine.List(r.Context(), runtime.Filter{All: true})
	if err != nil {
		return err
	}
	sort.SliceStable(everything, func(i, j int) bool { return everything[i].Created.After(everything[j].Created) })
	all := flag(r, "all") || limit > 0 || len(f["status"]) > 0 || len(f["exited"]) > 0
	out, now := []container.Summary{}, time.Now()
	for i := range everything {
		c := &everything[i]
		if !all && !alive(c.State.Status) || !keep(c) {
			continue
		}
		sum := toSummary(c, now)
		if flag(r, "size") {
			if sum.SizeRw, sum.SizeRootFs, err = s.sizes(r.Context(), c); err != nil {
				return err
			}
		}
		if out = append(out, sum); limit > 0 && len(out) == limit {
			break
		}
	}
	if r.URL.Query().Get("nodes") == "all" {
		return ok(w, s.everywhere(w, r, out, limit))
	}
	return ok(w, out)
}

// everywhere adds the containers of all other nodes to those here, and to each its node.
func (s *server) everywhere(w http.ResponseWriter, r *http.Request, here []container.Summary, limit int) []api.Container {
	out := make([]api.Container, 0, len(here))
	add := func(some []container.Summary, node api.NodeRef) {
		for _, c := range some {
			out = append(out, api.Container{Summary: c, Node: &node})
		}
	}
	add(here, api.NodeRef{ID: s.nodeID(), Hostname: s.Facts.Hostname})
	if s.alone(r) {
		return out
	}
	missing := s.askAll(r.Context(), "/containers/json?"+r.URL.RawQuery, func(p cluster.Peer, body io.Reader) error {
		var there []container.Summary
		if err := json.NewDecoder(body).Decode(&there); err != nil {
			return err
		}
		add(there, api.NodeRef{ID: p.ID, Hostname: p.Hostname})
		return nil
	})
	sayMissing(w, missing)
	sort.SliceStable(out, func(i, j int) bool { return out[i].Created > out[j].Created })
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return out
}

func alive(st runtime.Status) bool {
	return st == runtime.Running || st == runtime.Paused || st == runtime.Restarting
}

// containerFilter returns the test for one container; values that cannot be
// right are refused here.
func (s *server) containerFilter(ctx context.Context, f filters) (func(*runtime.Container) bool, error) {
	for _, st := range f["status"] {
		if err := container.ValidateContainerState(container.ContainerState(st)); err != nil {
			return nil, invalid("invalid filter 'status=%s'", st)
		}
	}
	for _, h := range f["health"] {
		if err := container.ValidateHealthStatus(container.HealthStatus(h)); err != nil {
			return nil, invalid("invalid filter 'health=%s'", h)
		}
	}
	for _, code := range f["exited"] {
		if _, err := strconv.Atoi(code); err != nil {
			return nil, invalid("invalid filter 'exited=%s'", code)
		}
	}
	task, isTask, err := f.truthOf("is-task")
	if err != nil {
		return nil, err
	}
	before, err := s.createdAt(ctx, f["before"])
	if err != nil {
		return nil, err
	}
	since, err := s.createdAt(ctx, f["since"])
	if err != nil {
		return nil, err
	}
	ancestors := s.ancestors(ctx, f["ancestor"])
	return func(c *runtime.Container) bool {
		if isTask && task != (c.Spec.Labels["dhow.task"] != "") {
			return false
		}
		if !before.IsZero() && !c.Created.Before(before) || !since.IsZero() && !c.Created.After(since) {
			return false
		}
		return matches(f, c) && (ancestors == nil || ancestors[c.ImageID] || ancestors[c.Spec.Image])
	}, nil
}

func matches(f filters, c *runtime.Container) bool {
	health := string(container.NoHealthcheck)
	if c.State.Health != nil {
		health = c.State.Health.Status
	}
	exited := c.State.Status == runtime.Exited && !c.State.FinishedAt.IsZero()
	return f.prefix("id", c.ID) &&
		f.any("name", func(want string) bool {
			one := filters{"name": {want}}
			return one.pattern("name", "/"+c.Name) || one.pattern("name", c.Name)
		}) &&
		f.labels(mergeLabels(c.Image.Labels, c.Spec.Labels)) &&
		f.exact("status", string(c.State.Status)) &&
		f.exact("health", health) &&
		f.any("exited", func(code string) bool { return exited && code == strconv.Itoa(c.State.ExitCode) }) &&
		f.any("volume", func(v string) bool { return usesVolume(c, v) }) &&
		f.any("network", func(n string) bool { return inNetwork(c, n) }) &&
		f.any("publish", func(p string) bool { return hasPort(c, p, true) }) &&
		f.any("expose", func(p string) bool { return hasPort(c, p, false) }) &&
		f.any("isolation", func(v string) bool { return v == "" || v == "default" })
}

func usesVolume(c *runtime.Container, v string) bool {
	for _, m := range c.Mounts {
		if m.Name == v || m.Target == v || m.Source == v {
			return true
		}
	}
	return false
}

func inNetwork(c *runtime.Container, ref string) bool {
	for name, ep := range endpointMap(c) {
		if name == ref || ep.NetworkID != "" && strings.HasPrefix(ep.NetworkID, ref) {
			return true
		}
	}
	return false
}

// hasPort reports whether c publishes (on the host) or exposes a port of want: "80", "80/udp", "80-90/tcp".
func hasPort(c *runtime.Container, want string, published bool) bool {
	wanted := exposed([]string{want})
	if published {
		for _, b := range c.Ports {
			for p := range wanted {
				if p.Num() == b.HostPort && string(p.Proto()) == first(b.Protocol, "tcp") {
					return true
				}
			}
		}
		return false
	}
	for p := range exposed(append(append([]string{}, c.Image.ExposedPorts...), c.Spec.Expose...)) {
		if _, found := wanted[p]; found {
			return true
		}
	}
	return false
}

func (s *server) createdAt(ctx context.Context, refs []string) (t time.Time, err error) {
	for _, ref := range refs {
		c, err := s.Engine.Inspect(ctx, ref)
		if err != nil {
			return t, notFound("No such container: %s", ref)
		}
		t = c.Created
	}
	return t, nil
}

// ancestors are the names and IDs that containers of these images carry; nil
// when none is asked for.
func (s *server) ancestors(ctx context.Context, refs []string) map[string]bool {
	if len(refs) == 0 {
		return nil
	}
	out := map[string]bool{}
	for _, ref := range refs {
		out[ref] = true
		if img, err := s.Images.Image(ctx, ref, ""); err == nil { // an unknown image has no containers
			out[img.ID] = true
		}
	}
	return out
}

// nodeID is this node's ID now: it changes when the node joins or leaves a cluster.
func (s *server) nodeID() string {
	if s.Cluster != nil {
		return s.Cluster.Self()
	}
	return s.Facts.NodeID
}
