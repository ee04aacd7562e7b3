package port

import (
	"io"
	"net/http"
	"testing"

	"github.com/dhow-project/dhow/stack"
)

// BenchmarkDial is a TCP connection, a handshake and the first line of the other side.
func BenchmarkDial(b *testing.B) {
	w := newWorld(b)
	a, c := w.add("n1", stack.RoleManager), w.add("n2", stack.RoleManager)
	echo(b, c.Raft())
	echo(b, a.Raft())
	for _, to := range []string{"n2", "n1"} {
		b.Run(map[string]string{"n2": "other", "n1": "self"}[to], func(b *testing.B) {
			for b.Loop() {
				conn, err := a.Dial(b.Context(), to, ProtoRaft)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := greeting(conn); err != nil {
					b.Fatal(err)
				}
				conn.Close()
			}
		})
	}
}

// BenchmarkRequest is a small request on a connection that is kept.
func BenchmarkRequest(b *testing.B) {
	w := newWorld(b)
	a, c := w.add("n1", stack.RoleManager), w.add("n2", stack.RoleManager)
	for _, n := range []*node{a, c} {
		n.HandleHTTP(http.HandlerFunc(whoami))
	}
	for _, to := range []string{"n2", "n1"} {
		b.Run(map[string]string{"n2": "other", "n1": "self"}[to], func(b *testing.B) {
			for b.Loop() {
				if _, err := get(b.Context(), a.HTTPClient(to), "http://"+to+"/"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBody is a body of 64 MiB, as image layers are sent.
func BenchmarkBody(b *testing.B) {
	w := newWorld(b)
	a, c := w.add("n1", stack.RoleManager), w.add("n2", stack.RoleManager)
	const size = 64 << 20
	c.HandleHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 1<<20)
		for range size / len(buf) {
			w.Write(buf)
		}
	}))
	b.SetBytes(size)
	for b.Loop() {
		res, err := a.HTTPClient("n2").Get("http://n2/")
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, res.Body); err != nil || n != size {
			b.Fatal(n, err)
		}
		res.Body.Close()
	}
}
