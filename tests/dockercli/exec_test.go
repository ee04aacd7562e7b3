package dockercli

import (
	"bytes"
	"encoding/json"
	"io"
	"net/url"
	"testing"
	"time"
)

// exitCode wants an exec to have ended with a code, now.
func (d *Docker) exitCode(exec string, want int) {
	d.Helper()
	var st struct {
		Running  bool
		ExitCode *int
	}
	d.call("GET", "/exec/"+exec+"/json", "", 200, &st)
	if st.Running || st.ExitCode == nil || *st.ExitCode != want {
		d.Errorf("exec: %+v, want code %d", st, want)
	}
}

func TestExecCodesAreFinal(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Run("run -d --name app busybox sleep 1000")
	for i, c := range []struct {
		cmd  string
		code int
	}{{`"sh","-c","exit 3"`, 3}, {`"true"`, 0}, {`"/no/such"`, 127}, {`"nosuch"`, 127}, {`"/etc"`, 126}, {`"sh","-c","kill -9 $$"`, 137}} {
		for _, tty := range []string{"false", "true"} {
			var made struct{ ID string }
			d.call("POST", "/containers/app/exec", `{"Cmd":[`+c.cmd+`],"AttachStdout":true,"AttachStderr":true,"Tty":`+tty+`}`, 201, &made)
			_, stream := d.upgrade("/exec/"+made.ID+"/start", `{"Tty":`+tty+`}`)
			text, err := io.ReadAll(stream)
			if err != nil {
				t.Errorf("%d: %v", i, err)
			}
			if c.code >= 126 && c.code < 128 && !bytes.Contains(text, []byte("exec")) {
				t.Errorf("%s: it does not say why: %q", c.cmd, text)
			}
			d.exitCode(made.ID, c.code)
			d.call("POST", "/exec/"+made.ID+"/start", `{}`, 409, nil)
		}
	}
	d.call("POST", "/exec/none/start", `{}`, 404, nil)
}

// An exec that goes on while the daemon is replaced keeps its exit code.
func TestExecSurvivesTheDaemon(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Run("run -d --name app busybox sleep 1000")
	var ended, running struct{ ID string }
	d.call("POST", "/containers/app/exec", `{"Cmd":["sh","-c","exit 6"],"AttachStdout":true}`, 201, &ended)
	_, stream := d.upgrade("/exec/"+ended.ID+"/start", `{}`)
	_, _ = io.Copy(io.Discard, stream)
	d.call("POST", "/containers/app/exec", `{"Cmd":["sh","-c","until test -e /go; do sleep 0.05; done; exit 7"]}`, 201, &running)
	d.call("POST", "/exec/"+running.ID+"/start", `{"Detach":true}`, 200, nil)
	d.Kill()
	d.Start()
	d.exitCode(ended.ID, 6)
	var st struct{ Running bool }
	if d.call("GET", "/exec/"+running.ID+"/json", "", 200, &st); !st.Running {
		t.Error("the daemon has lost an exec that runs")
	}
	resp := d.ask("GET", "/events?filters="+url.QueryEscape(`{"event":["exec_die"]}`), "")
	d.Run("exec -d app touch /go")
	dec := json.NewDecoder(resp.Body)
	deadline := time.AfterFunc(20*time.Second, func() { _ = resp.Body.Close() })
	defer deadline.Stop()
	for {
		var e event
		if err := dec.Decode(&e); err != nil {
			t.Fatalf("no exec_die: %v", err)
		}
		if e.Actor.Attributes["execID"] == running.ID {
			if e.Actor.Attributes["exitCode"] != "7" {
				t.Errorf("exec_die: %v", e.Actor.Attributes)
			}
			break
		}
	}
	d.exitCode(running.ID, 7)
}

// A client that goes takes its connection along, not the process: the exit code is the process's own.
func TestExecOutlivesItsClient(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Run("run -d --name app busybox sleep 1000")
	var made struct{ ID string }
	d.call("POST", "/containers/app/exec", `{"Cmd":["sh","-c","echo up; until test -e /go; do sleep 0.05; done; exit 8"],"AttachStdout":true}`, 201, &made)
	resp := d.ask("GET", "/events?filters="+url.QueryEscape(`{"event":["exec_die"]}`), "")
	conn, stream := d.upgrade("/exec/"+made.ID+"/start", `{}`)
	if _, err := io.ReadFull(stream, make([]byte, 8+3)); err != nil { // a frame with "up"
		t.Fatal(err)
	}
	_ = conn.Close()
	d.Run("exec -d app touch /go")
	dec := json.NewDecoder(resp.Body)
	for {
		var e event
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		if e.Actor.Attributes["execID"] == made.ID {
			if e.Actor.Attributes["exitCode"] != "8" {
				t.Errorf("exec_die: %v", e.Actor.Attributes)
			}
			break
		}
	}
	d.exitCode(made.ID, 8)
}
