package bench

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// place is a network namespace to send and receive in: a container's, or a host's.
type place struct {
	b  *testing.B
	ns string // path
}

// command is a program in the place.
func (p place) command(program string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=" + p.ns, program}, args...)...)
}

func (p place) run(program string, args ...string) string {
	p.b.Helper()
	out, err := p.command(program, args...).CombinedOutput()
	if err != nil {
		p.b.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// serve runs a program in the place until the benchmark ends.
func (p place) serve(program string, args ...string) {
	p.b.Helper()
	cmd := p.command(program, args...)
	if err := cmd.Start(); err != nil {
		p.b.Fatal(err)
	}
	p.b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// probeTime is how many seconds one sample of throughput takes.
const probeTime = "1"

// throughput is what TCP brings to an address where iperf3 listens, in bits per second.
func (p place) throughput(addr string) float64 {
	p.b.Helper()
	var out struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	text := p.run("iperf3", "--json", "-t", probeTime, "-c", addr)
	if err := json.Unmarshal([]byte(text), &out); err != nil || out.End.Received.Rate == 0 {
		p.b.Fatalf("iperf3 to %s: %v: %s", addr, err, text)
	}
	return out.End.Received.Rate
}

// shares are samples of which more is better.
type shares []float64

func (s shares) samples() samples { // as times, whose order and median are the same
	out := make(samples, len(s))
	for i, v := range s {
		out[i] = time.Duration(v)
	}
	return out
}

func (s shares) median() float64 { return float64(s.samples().median()) }

// sharesInTurn is inTurn for shares.
func sharesInTurn(n int, fs ...func() float64) []shares {
	out := make([]shares, len(fs))
	for range n {
		for i, f := range fs {
			time.Sleep(settle)
			out[i] = append(out[i], f())
		}
	}
	return out
}
