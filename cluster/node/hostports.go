package node

import (
	"context"
	"fmt"
	"net/http"

	"github.com/dhow-project/dhow/cluster/identity"
	"github.com/dhow-project/dhow/cluster/port"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// portsPath is where a manager asks a node for its host ports.
const portsPath = "/cluster/v1/ports"

// maxPorts bounds the ports of one question.
const maxPorts = 4096

// portsAsked is the question, portsTaken the answer.
type portsAsked struct {
	Ports []stack.Port `json:"ports"`
}

type portsTaken struct {
	Taken []string `json:"taken,omitempty"` // a sentence for each that a process has
}

// nodePorts fits cluster.NodePorts.
type nodePorts struct{ e *epoch }

// PortsTaken asks one node, which may be this one.
func (p nodePorts) PortsTaken(ctx context.Context, node string, ports []stack.Port) ([]string, error) {
	if node == p.e.node {
		return p.e.portsTaken(ports), nil
	}
	var a portsTaken
	if err := post(ctx, p.e.port.HTTPClient(node), "http://"+node+portsPath, portsAsked{ports}, &a); err != nil {
		return nil, fmt.Errorf("ask node %s for its ports: %w", node, err)
	}
	return a.Taken, nil
}

func (e *epoch) portsTaken(ports []stack.Port) []string {
	if e.n.cfg.PortsTaken == nil {
		return nil
	}
	return e.n.cfg.PortsTaken(ports)
}

// portsHandler answers managers.
func (e *epoch) portsHandler(w http.ResponseWriter, r *http.Request) {
	peer, _ := port.PeerOf(r)
	if !e.manages(peer) {
		refuse(w, http.StatusForbidden, refusal{Message: "only a manager asks for a node's ports: " + runtime.ErrForbidden.Error()})
		return
	}
	var q portsAsked
	if !question(w, r, &q) {
		return
	}
	if len(q.Ports) > maxPorts {
		refuse(w, http.StatusBadRequest, refusal{Message: fmt.Sprintf("%d ports in one question", len(q.Ports))})
		return
	}
	say(w, portsTaken{e.portsTaken(q.Ports)})
}

// manages reports whether a peer is a manager, as far as this node knows.
func (e *epoch) manages(p identity.Peer) bool {
	role, known := e.roleOf(p)
	return known && role == stack.RoleManager
}
