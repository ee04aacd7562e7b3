package server

import (
	"net/http"

	"github.com/moby/moby/api/types/build"
)

// notYetRoutes answer what Docker has and this server does not, so that a
// person reads which it is.
func (s *server) notYetRoutes() {
	for what, patterns := range map[string][]string{
		"building images: build elsewhere and load or pull the image":     {"POST /build", "POST /build/cancel", "POST /session", "POST /grpc"},
		"making an image of a container":                                  {"POST /commit"},
		"attaching through a WebSocket: use POST /containers/{id}/attach": {"GET /containers/{id}/attach/ws"},
		"checkpoints": {"GET /containers/{id}/checkpoints", "POST /containers/{id}/checkpoints", "DELETE /containers/{id}/checkpoints/{checkpoint}"},
		"changing services through Docker's swarm API: use `dhow up`, `scale` and `down`": {
			"POST /services/{rest...}", "DELETE /services/{rest...}",
		},
		"logs of services through Docker's swarm API: use `dhow logs`": {"GET /services/{id}/logs", "GET /tasks/{id}/logs"},
		"changing secrets and configs through Docker's swarm API: use those of stacks": {
			"POST /secrets/{rest...}", "DELETE /secrets/{rest...}", "POST /configs/{rest...}", "DELETE /configs/{rest...}",
		},
		"plugins": {"POST /plugins/{rest...}", "GET /plugins/privileges", "DELETE /plugins/{rest...}"},
		"asking a registry about an image without pulling it": {"GET /distribution/{rest...}"},
	} {
		for _, pattern := range patterns {
			s.handle(pattern, func(http.ResponseWriter, *http.Request) error { return notYet("not offered yet: %s", what) })
		}
	}
	s.handle("GET /plugins/{name}/json", func(_ http.ResponseWriter, r *http.Request) error {
		return notFound("plugin %q not found", r.PathValue("name")) // docker inspect asks for every kind of thing
	})
	// docker system prune asks for it: without builds there is no cache, and that is no error.
	s.handle("POST /build/prune", func(w http.ResponseWriter, _ *http.Request) error {
		return ok(w, build.CachePruneReport{CachesDeleted: []string{}})
	})
	s.handle("GET /plugins", func(w http.ResponseWriter, _ *http.Request) error { return ok(w, []struct{}{}) })
}
