package wire

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"
)

func TestRoundTrips(t *testing.T) {
	c := Config{ID: "id", Bundle: "/b", Dir: "/d", Runtime: "/runc", RuntimeArgs: []string{"--debug"}, TTY: true, Rows: 3, LogPath: "/l", LogMaxSize: 1 << 40}
	if got, err := DecodeConfig(c.Encode()); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("%+v, %v", got, err)
	}
	x := ExitMsg{Code: 137, Signal: 9, OOMKilled: true, At: time.Unix(5, 6).UTC(), Error: "why"}
	if got, err := DecodeExit(x.Encode()); err != nil || got != x {
		t.Errorf("%+v, %v", got, err)
	}
	m := ExecMsg{ID: "x", File: "/f", Streams: Streams{Stdin: true}, TTY: true, Rows: 1, Cols: 2}
	if got, err := DecodeExec(m.Encode()); err != nil || got != m {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := DecodeExec(append(m.Encode(), 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("trailing byte: %v", err)
	}
}

func TestNext(t *testing.T) {
	whole := Append(nil, Data, Stdout, []byte("hello"))
	for n := range whole {
		if _, used, err := Next(whole[:n]); used != 0 || err != nil {
			t.Errorf("%d bytes: %d, %v", n, used, err)
		}
	}
	if f, n, err := Next(whole); err != nil || n != len(whole) || string(f.Payload) != "hello" || f.ID != Stdout {
		t.Errorf("%+v, %d, %v", f, n, err)
	}
	if _, _, err := Next([]byte{0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0}); !errors.Is(err, ErrTooLong) {
		t.Errorf("too long: %v", err)
	}
}

// FuzzFrames: what a peer sends is bounded and never panics; what decodes
// encodes to the same.
func FuzzFrames(f *testing.F) {
	f.Add(Append(nil, Exec, 1, ExecMsg{ID: "x", File: "f"}.Encode()))
	f.Add(Append(Append(nil, Data, 0, []byte("abc")), Signal, 2, SignalMsg{Signal: 9}.Encode()))
	f.Add(Config{ID: "x", RuntimeArgs: []string{"a"}}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		DecodeConfig(b)
		for len(b) > 0 {
			fr, n, err := Next(b)
			if err != nil || n == 0 {
				return
			}
			if n > HeaderLen+MaxPayload || !bytes.Equal(Append(nil, fr.Type, fr.ID, fr.Payload), b[:n]) {
				t.Fatal("frame is not what was sent")
			}
			decodeAll(t, fr.Payload)
			b = b[n:]
		}
	})
}

func decodeAll(t *testing.T, p []byte) {
	same := func(err error, encoded []byte) {
		if err == nil && !bytes.Equal(encoded, p) {
			t.Fatalf("%x became %x", p, encoded)
		}
	}
	exec, err := DecodeExec(p)
	same(err, exec.Encode())
	attach, err := DecodeAttach(p)
	same(err, attach.Encode())
	resize, err := DecodeResize(p)
	same(err, resize.Encode())
	rejoin, err := DecodeRejoin(p)
	same(err, rejoin.Encode())
	signal, err := DecodeSignal(p)
	same(err, signal.Encode())
	command, err := DecodeCommand(p)
	same(err, command.Encode())
	started, err := DecodeStarted(p)
	same(err, started.Encode())
	fail, err := DecodeError(p)
	same(err, fail.Encode())
	DecodeState(p)
	DecodeExit(p)
}
