package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"strings"

	"github.com/dhow-project/dhow/cluster"
)

func newReader(data []byte) io.Reader { return bytes.NewReader(data) }

// isHijack reports whether the answer to r may take its connection over.
func isHijack(r *http.Request) bool {
	return r.Header.Get("Upgrade") != "" || r.Method == http.MethodPost &&
		(strings.HasSuffix(r.URL.Path, "/attach") || strings.HasPrefix(r.URL.Path, "/exec/") && strings.HasSuffix(r.URL.Path, "/start"))
}

// passStream is pass for a request whose answer may be a stream in both
// directions: 101, or 200 as clients without an upgrade expect it. A connection
// of its own is made for it, and each direction of it can end alone: that the
// client's has ended, which net/http takes for its end, does not matter here.
func (s *server) passStream(w http.ResponseWriter, r *http.Request, node string, how passing) error {
	body, err := keepBody(r)
	if err != nil {
		return err
	}
	how.body = body
	ctx, stop := s.whileUp(context.WithoutCancel(r.Context()), node, false)
	defer stop(nil)
	remote, err := s.Cluster.Dial(ctx, node)
	if err != nil {
		return s.unanswered(ctx, node, false, fmt.Errorf("%w: %w", err, cluster.ErrUnreachable))
	}
	defer remote.Close() //nolint:errcheck // both ends have ended before
	cut := context.AfterFunc(ctx, func() { _ = remote.Close() })
	defer cut()
	req := outgoing(ctx, r, how)
	req.URL.Path = forwardPrefix + req.URL.Path
	if up := r.Header.Get("Upgrade"); up != "" {
		req.Header.Set("Upgrade", up)
		req.Header.Set("Connection", "Upgrade")
	}
	if err := req.Write(remote); err != nil {
		return s.unanswered(ctx, node, false, err)
	}
	head := &headReader{Reader: remote, left: maxHead}
	far := &wire{Conn: remote, r: bufio.NewReader(head)}
	resp, err := http.ReadResponse(far.r, req)
	head.left = math.MaxInt64 // what follows may be as long as it likes
	if err != nil {
		return s.unanswered(ctx, node, false, err)
	}
	defer resp.Body.Close() //nolint:errcheck // it is only read
	contentType := resp.Header.Get("Content-Type")
	if !taken(resp, contentType) {
		return relay(w, resp, nil)
	}
	r.ContentLength = 0 // it has been read
	near, err := hijack(w, r, contentType)
	if err != nil {
		return err
	}
	splice(near, far)
	return nil
}

// maxHead bounds the header of another node's answer, bytes.
const maxHead = 64 << 10

// headReader ends with an error when more is read than left, bytes.
type headReader struct {
	io.Reader
	left int64
}

func (h *headReader) Read(p []byte) (int, error) {
	if h.left <= 0 {
		return 0, errors.New("the header of the answer is too long")
	}
	n, err := h.Reader.Read(p)
	h.left -= int64(n)
	return n, err
}

// taken reports whether the other node has taken the connection over.
func taken(resp *http.Response, contentType string) bool {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return true
	}
	return resp.StatusCode == http.StatusOK && resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 &&
		(contentType == rawStream || contentType == multiplexedStream)
}

// splice moves bytes both ways until the far end has no more output or the
// client has gone. The end of the client's direction ends that direction only.
func splice(near, far *wire) {
	input, output := make(chan struct{}), make(chan struct{})
	gone := make(chan struct{})
	go func() {
		defer close(input)
		_, err := io.Copy(onlyWriter{far.Conn}, near)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		_ = far.CloseWrite()
		waitGone(near.Conn)
		close(gone)
	}()
	go func() {
		defer close(output)
		_, _ = io.Copy(onlyWriter{near.Conn}, far) // the reason to end does not matter
	}()
	select {
	case <-output:
	case <-gone:
	}
	_ = far.Close()
	near.endWrite()
	<-input
	_ = near.Close()
	<-output
}
