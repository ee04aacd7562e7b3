package dispatch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/dhow-project/dhow/stack"
)

// protocol is the version of the messages. A peer of another one is refused;
// what is not known in a message is passed over, so that what was added later
// needs no new version: nodes are updated one after the other.
const protocol = 1

// fromClient is one message of a node; exactly one field is set.
type fromClient struct {
	Hello    *hello       `json:"hello,omitempty"` // the first one, and only the first
	Beat     *beat        `json:"beat,omitempty"`
	Report   *report      `json:"report,omitempty"`
	Describe *Description `json:"describe,omitempty"`
}

// hello opens a session and says what the node still has of the last one.
type hello struct {
	Protocol    int               `json:"protocol"`
	Description Description       `json:"description"`
	Lost        string            `json:"lost,omitempty"`    // the leader whose session was cut: who leads after it, if it is dead?
	Tasks       map[string]uint64 `json:"tasks,omitempty"`   // task ID to the sum it came with
	Specs       []string          `json:"specs,omitempty"`   // by reference
	Buckets     []uint64          `json:"buckets,omitempty"` // sums of the board's buckets

	Topics map[string][]uint64 `json:"topics,omitempty"` // sums of the buckets of each directory; none: all of it is to be sent
}

type beat struct {
	Seq uint64 `json:"seq"`
}

type report struct {
	Seq     uint64  `json:"seq"`
	Reports reports `json:"reports"`
}

// reports are at most maxReports: a message of small things would else take many
// times its size before it could be refused.
type reports []stack.TaskReport

func (l *reports) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	*l = nil
	switch t, err := d.Token(); {
	case err != nil || t == nil:
		return err
	case t != json.Delim('['):
		return errors.New("the statuses of a report are no list")
	}
	for d.More() {
		if len(*l) == maxReports {
			return fmt.Errorf("more than %d statuses in a report", maxReports)
		}
		var r stack.TaskReport
		if err := d.Decode(&r); err != nil {
			return err
		}
		*l = append(*l, r)
	}
	return nil
}

// fromServer is one message of the leader; exactly one field is set.
type fromServer struct {
	Welcome  *welcome  `json:"welcome,omitempty"` // the first one
	Ack      *ack      `json:"ack,omitempty"`
	Reported *reported `json:"reported,omitempty"`
	Update   *update   `json:"update,omitempty"`
	Bye      *bye      `json:"bye,omitempty"` // the last one
}

type welcome struct {
	Protocol int   `json:"protocol"`
	Terms    Terms `json:"terms"`
}

// ack grants a lease from the moment the heartbeat was sent.
type ack struct {
	Seq   uint64 `json:"seq"`
	Terms Terms  `json:"terms"`
}

type reported struct {
	Seq   uint64 `json:"seq"`
	Error string `json:"error,omitempty"`
}

// bye ends a session before or after it began.
type bye struct {
	Leader string `json:"leader,omitempty"` // who leads; "": not known
	Reason string `json:"reason,omitempty"`
}

// update is what changed for the node. Parts of one update are taken in together.
type update struct {
	Index uint64     `json:"index"`
	More  bool       `json:"more,omitempty"` // another part follows
	Specs []spec     `json:"specs,omitempty"`
	Tasks []taskItem `json:"tasks,omitempty"`
	Gone  []string   `json:"gone,omitempty"` // task IDs
	Drop  []string   `json:"drop,omitempty"` // references of specs that nothing uses any more
	Board *news      `json:"board,omitempty"`

	Topics []topicNews `json:"topics,omitempty"`
}

// spec is something that several tasks refer to; it never changes.
type spec struct {
	Ref  string          `json:"ref"`
	Kind string          `json:"kind"` // "service", "stack", "config", "secret"
	Data json.RawMessage `json:"data"`
}

// Kinds of specs.
const (
	kindService = "service"
	kindStack   = "stack"
	kindConfig  = "config"
	kindSecret  = "secret"
)

// taskItem is an assignment with references in place of what it shares with others.
type taskItem struct {
	Sum     uint64            `json:"sum"`
	Task    stack.Task        `json:"task"`
	Service string            `json:"service,omitempty"`
	Stack   string            `json:"stack,omitempty"`
	Hash    string            `json:"hash,omitempty"`
	Secrets map[string]string `json:"secrets,omitzero"` // key to reference
	Configs map[string]string `json:"configs,omitzero"`

	Auth *stack.RegistryAuth `json:"auth,omitempty"` // for the image; never kept on disk
}

// news is what changed on the board: what all nodes know of the cluster.
type news struct {
	Clear []int    `json:"clear,omitempty"` // buckets to empty first
	Items []notice `json:"items,omitempty"`
	Gone  []string `json:"gone,omitempty"` // keys
}

// topicNews is what changed in the directory of a network, or of published ports.
type topicNews struct {
	Topic string `json:"topic"`
	End   bool   `json:"end,omitempty"` // the node has nothing to do with it any more
	Of    int    `json:"of,omitempty"`  // buckets that News.Clear counts in
	News  *news  `json:"news,omitempty"`
}

// notice is one item of the board.
type notice struct {
	Key  string          `json:"key"` // "node/ID", "network/NAME", "cluster"; of a directory: EndpointKey and the like
	Sum  uint64          `json:"sum"`
	Data json.RawMessage `json:"data"`
}
