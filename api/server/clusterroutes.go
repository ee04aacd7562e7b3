package server

import (
	"net/http"
	"time"

	"github.com/moby/moby/api/types/swarm"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/stack"
)

// clusterRoutes are Docker's swarm API and what dhow has beyond it.
func (s *server) clusterRoutes() {
	s.onCluster("POST /swarm/init", s.initSwarm)
	s.onCluster("POST /swarm/join", s.joinSwarm)
	s.onCluster("POST /swarm/leave", s.leaveSwarm)
	s.onSwarm("GET /swarm", read, s.getSwarm)
	s.onSwarm("POST /swarm/update", once, s.updateSwarm)
	s.handle("GET /swarm/unlockkey", s.noAutolock)
	s.handle("POST /swarm/unlock", s.noAutolock)

	s.onNodes("GET /nodes", read, s.listNodes)
	s.onNodes("GET /nodes/{id}", read, s.getNode)
	s.onNodes("POST /nodes/{id}/update", once, s.updateNode)
	s.onNodes("DELETE /nodes/{id}", again, s.removeNode)

	s.onStacks("GET /services", read, s.listServices)
	s.onStacks("GET /services/{id}", read, s.getService)
	s.onStacks("GET /secrets", read, s.listSecrets(false))
	s.onStacks("GET /secrets/{id}", read, s.getSecret(false))
	s.onStacks("GET /configs", read, s.listSecrets(true))
	s.onStacks("GET /configs/{id}", read, s.getSecret(true))
	s.onStacks("GET /tasks", read, s.listTasks)
	s.onStacks("GET /tasks/{id}", read, s.getTask)

	s.onCluster("GET /dhow/v1/peers", s.peers)
	s.onNodes("GET /dhow/v1/locate", read, s.locateContainer)
	s.onLeader("GET /dhow/v1/networks", read, s.networkNouns)
	s.onLeader("GET /dhow/v1/networks/{id}", read, s.viewNetwork)
	s.onSwarm("GET /dhow/v1/swarm/snapshot", read, s.saveSnapshot)
	s.onSwarm("PUT /dhow/v1/swarm/snapshot", once, s.restoreSnapshot)
	s.onCluster("POST /dhow/v1/swarm/snapshot/inspect", s.inspectSnapshot)
}

// onCluster registers a handler that acts on this node.
func (s *server) onCluster(pattern string, h handler) {
	s.handle(pattern, func(w http.ResponseWriter, r *http.Request) error {
		if s.Cluster == nil {
			return errNoCluster
		}
		return h(w, r)
	})
}

// onNodes registers a handler of the cluster's records.
func (s *server) onNodes(pattern string, rep repeat, h handler) {
	s.onLeader(pattern, rep, func(w http.ResponseWriter, r *http.Request) error {
		if s.Cluster == nil {
			return errNoCluster
		}
		return h(w, r)
	})
}

// onSwarm registers a handler that needs a cluster that others may join.
func (s *server) onSwarm(pattern string, rep repeat, h handler) {
	s.onNodes(pattern, rep, func(w http.ResponseWriter, r *http.Request) error {
		if s.Cluster.Local().State == "inactive" {
			return errNotInSwarm
		}
		return h(w, r)
	})
}

var errNoCluster = notYet("this daemon has no part in clusters")

func (s *server) noAutolock(http.ResponseWriter, *http.Request) error {
	return notYet("not offered yet: locking managers (autolock)")
}

// peers lists all nodes as this one knows them, without asking another.
func (s *server) peers(w http.ResponseWriter, _ *http.Request) error {
	local := s.Cluster.Local()
	role := stack.RoleWorker
	if local.Manager {
		role = stack.RoleManager
	}
	out := []api.Peer{{ID: s.Cluster.Self(), Hostname: s.Facts.Hostname, Addr: local.Advertise, Role: string(role), Self: true}}
	for _, p := range s.Cluster.Peers() {
		out = append(out, api.Peer{ID: p.ID, Hostname: p.Hostname, Addr: p.Addr, Role: string(p.Role), Down: p.Down})
	}
	return ok(w, out)
}

func (s *server) locateContainer(w http.ResponseWriter, r *http.Request) error {
	ref := r.URL.Query().Get("ref")
	at, found := s.Cluster.Locate(ref)
	if !found {
		return notFound("No such container: %s", ref)
	}
	return ok(w, api.Location{Node: at.Node, Container: at.Container, Name: at.Name, Task: at.Task})
}

// networkNouns are the networks for a node without the replicated state.
func (s *server) networkNouns(w http.ResponseWriter, _ *http.Request) error {
	return ok(w, list(s.Networks.Networks()))
}

func (s *server) viewNetwork(w http.ResponseWriter, r *http.Request) error {
	v, err := s.Networks.NetworkView(r.PathValue("id"))
	if err != nil {
		return err
	}
	return ok(w, v)
}

func (s *server) saveSnapshot(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "application/octet-stream")
	return s.Cluster.SaveSnapshot(r.Context(), w)
}

func (s *server) restoreSnapshot(w http.ResponseWriter, r *http.Request) error {
	return noContent(w, s.Cluster.RestoreSnapshot(r.Context(), r.Body))
}

func (s *server) inspectSnapshot(w http.ResponseWriter, r *http.Request) error {
	info, err := s.Cluster.InspectSnapshot(r.Context(), r.Body)
	if err != nil {
		return err
	}
	out := api.SnapshotInfo{Cluster: info.Cluster, Index: info.Index, Term: info.Term, Size: info.Size, Nodes: info.Nodes,
		Stacks: info.Stacks, Services: info.Services, Tasks: info.Tasks, Checksum: info.Checksum}
	if !info.Created.IsZero() {
		out.Created = info.Created.UnixNano()
	}
	return ok(w, out)
}

// meta is what Docker says of every record.
func meta(version uint64, created, updated int64) swarm.Meta {
	m := swarm.Meta{Version: swarm.Version{Index: version}, CreatedAt: time.Unix(0, created).UTC()}
	m.UpdatedAt = time.Unix(0, max(updated, created)).UTC()
	return m
}
