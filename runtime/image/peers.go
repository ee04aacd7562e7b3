package image

import (
	"context"
	"net/http"
)

// Peers are the other nodes of the cluster, as the store sees them.
type Peers interface {
	// Peers lists the IDs of nodes that may have an image, best first. key is
	// the digest of an index or manifest, an image's ID, or a whole reference
	// ("docker.io/library/redis:7"). It may list nodes that turn out not to
	// have it, and is asked again while a pull waits for busy ones.
	Peers(ctx context.Context, key string) []string
	// Client speaks to the Handler of a node's store at http://NODE/v2/: what
	// is below HTTP, and how the node is found, is the client's matter.
	Client(node string) *http.Client
	// Name is what people call the node.
	Name(node string) string
}
