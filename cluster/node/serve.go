package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/cluster/port"
	"github.com/dhow-project/dhow/runtime"
)

// What nodes ask of the manager that leads, beside sessions.
const (
	renewPath  = "/cluster/v1/renew"
	departPath = "/cluster/v1/depart"
)

// maxQuestion bounds what another node may send, bytes.
const maxQuestion = 1 << 20

// refusal is the body of an answer that is none.
type refusal struct {
	Message string `json:"message"`
	Leader  string `json:"leader,omitempty"` // whom to ask instead
	Addr    string `json:"addr,omitempty"`   // of the leader
}

// renewal is a node's request for new papers.
type renewal struct {
	CSR []byte `json:"csr"` // PEM
}

// handler answers the other nodes.
func (e *epoch) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+port.RootPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-pem-file")
		w.Write(e.n.id.Roots()) //nolint:errcheck // who asked has gone
	})
	mux.HandleFunc("POST "+port.JoinPath, func(w http.ResponseWriter, r *http.Request) {
		answer(e, w, r, func(ctx context.Context, m *cluster.Manager, a cluster.Admission) (cluster.Papers, error) {
			return m.Admit(ctx, a)
		})
	})
	mux.HandleFunc("POST "+renewPath, func(w http.ResponseWriter, r *http.Request) {
		answer(e, w, r, func(ctx context.Context, m *cluster.Manager, q renewal) (cluster.Papers, error) {
			p, _ := port.PeerOf(r)
			return m.Renew(ctx, p.Node, q.CSR)
		})
	})
	mux.HandleFunc("POST "+departPath, func(w http.ResponseWriter, r *http.Request) {
		answer(e, w, r, func(ctx context.Context, m *cluster.Manager, _ struct{}) (struct{}, error) {
			p, _ := port.PeerOf(r)
			return struct{}{}, m.Depart(ctx, p.Node)
		})
	})
	mux.HandleFunc("POST "+port.StandingPath, func(w http.ResponseWriter, r *http.Request) {
		answer(e, w, r, func(ctx context.Context, m *cluster.Manager, _ struct{}) (standing, error) {
			if err := m.Verify(ctx); err != nil {
				return standing{}, err
			}
			p, _ := port.PeerOf(r)
			_, ok := m.RoleOf(p.Node)
			return standing{Member: ok}, nil
		})
	})
	mux.HandleFunc("POST "+holdersPath, func(w http.ResponseWriter, r *http.Request) {
		answer(e, w, r, func(_ context.Context, _ *cluster.Manager, q holders) (holders, error) {
			return holders{Nodes: e.stock.holders(q.Key)}, nil
		})
	})
	e.plainHandlers(mux)
	mux.HandleFunc("POST "+portsPath, e.portsHandler)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		e.n.mu.Lock()
		h := e.n.handler
		e.n.mu.Unlock()
		if h == nil {
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
	return mux
}

// answer reads a question, lets the manager that leads answer it, and says who
// leads when it is not this one.
func answer[Q, A any](e *epoch, w http.ResponseWriter, r *http.Request, do func(context.Context, *cluster.Manager, Q) (A, error)) {
	var q Q
	if !question(w, r, &q) {
		return
	}
	m := e.managing()
	if m == nil {
		refuse(w, http.StatusMisdirectedRequest, refusal{Message: "this node is a worker; ask a manager"})
		return
	}
	if !m.Leading() {
		e.misdirect(w, m)
		return
	}
	a, err := do(r.Context(), m, q)
	switch {
	case err == nil:
		say(w, a)
	case errors.Is(err, cluster.ErrNotLeader):
		e.misdirect(w, m)
	default:
		refuse(w, status(err), refusal{Message: err.Error()})
	}
}

// question reads what is asked; false: it is refused.
func question(w http.ResponseWriter, r *http.Request, q any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxQuestion)).Decode(q); err != nil {
		refuse(w, http.StatusBadRequest, refusal{Message: "read the question: " + err.Error()})
		return false
	}
	return true
}

func say(w http.ResponseWriter, a any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(a) //nolint:errcheck // who asked has gone
}

func (e *epoch) misdirect(w http.ResponseWriter, m *cluster.Manager) {
	ref := refusal{Message: "there is no leader at the moment", Leader: m.Leader()}
	if ref.Leader != "" {
		ref.Message = "this manager does not lead"
		ref.Addr, _ = e.Addr(ref.Leader) // "": the other looks for itself
	}
	refuse(w, http.StatusMisdirectedRequest, ref)
}

func refuse(w http.ResponseWriter, code int, r refusal) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(r) //nolint:errcheck // who asked has gone
}

// status is the HTTP status of an error; sentinel is its inverse.
func status(err error) int {
	switch {
	case errors.Is(err, runtime.ErrInvalid):
		return http.StatusBadRequest
	case errors.Is(err, runtime.ErrForbidden):
		return http.StatusForbidden
	case errors.Is(err, runtime.ErrConflict):
		return http.StatusConflict
	case errors.Is(err, runtime.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, runtime.ErrUnavailable), errors.Is(err, cluster.ErrInSwarm):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func sentinel(code int) error {
	switch code {
	case http.StatusBadRequest:
		return runtime.ErrInvalid
	case http.StatusForbidden:
		return runtime.ErrForbidden
	case http.StatusConflict:
		return runtime.ErrConflict
	case http.StatusNotFound:
		return runtime.ErrNotFound
	}
	return runtime.ErrUnavailable
}

// misdirected is who leads instead.
type misdirected struct{ refusal }

func (m *misdirected) Error() string { return m.Message }

// post asks one question of one node.
func post(ctx context.Context, c *http.Client, url string, q, a any) error {
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := c.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxQuestion))
	if err != nil {
		return err
	}
	if res.StatusCode == http.StatusOK {
		return json.Unmarshal(data, a)
	}
	ref := refusal{Message: res.Status}
	_ = json.Unmarshal(data, &ref) // the status says enough
	if res.StatusCode == http.StatusMisdirectedRequest {
		return &misdirected{ref}
	}
	return &denied{res.StatusCode, ref.Message}
}

// denied is what a node says instead of an answer.
type denied struct {
	code int // of HTTP
	text string
}

func (d *denied) Error() string { return sentinel(d.code).Error() + ": " + d.text }
func (d *denied) Unwrap() error { return sentinel(d.code) }

// ask asks the manager that leads, wherever it is, until it answers or ctx ends.
func (e *epoch) ask(ctx context.Context, path string, q, a any) error {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := e.askOnce(ctx, path, q, a)
		if err == nil || final(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(pause):
		}
	}
}

// final reports whether asking again would be answered in the same way.
func final(err error) bool {
	return errors.Is(err, runtime.ErrInvalid) || errors.Is(err, runtime.ErrForbidden) || errors.Is(err, runtime.ErrConflict)
}

// askOnce asks the leader if it is known, else each manager in turn.
func (e *epoch) askOnce(ctx context.Context, path string, q, a any) error {
	last := runtime.ErrUnavailable
	next, tried := e.leader(), map[string]bool{}
	for _, id := range append([]string{next}, e.managers()...) {
		for id != "" && !tried[id] {
			tried[id] = true
			err := post(ctx, e.port.HTTPClient(id), "http://"+id+path, q, a)
			if err == nil {
				return nil
			}
			last = err
			var other *misdirected
			if !errors.As(err, &other) {
				break
			}
			id = other.Leader
		}
	}
	return last
}

// leader is the node that leads, as far as this one knows; "" when it does not.
func (e *epoch) leader() string {
	if m := e.managing(); m != nil {
		return m.Leader()
	}
	return e.client.Leader()
}
