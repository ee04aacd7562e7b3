package bench

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dhow-project/dhow/tests/netlab"
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

// probeTime is how many seconds one sample of throughput or latency takes.
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

var (
	median = regexp.MustCompile(`50%\s+([\d.]+)(us|ms|s)`)
	wrong  = regexp.MustCompile(`Socket errors:.*|Non-2xx.*`)
)

// connections is how many connections with one request each a web server
// takes per second from four clients. They end with a reset, so that no port
// waits to be used again: that would soon be what is measured.
func (p place) connections(addr string) float64 {
	p.b.Helper()
	const clients, long = 4, time.Second
	var made atomic.Int64
	var group errgroup.Group
	start := time.Now()
	for range clients {
		group.Go(func() error {
			return netlab.Inside(p.ns, func() error {
				for buf := make([]byte, 4096); time.Since(start) < long; made.Add(1) {
					if err := once(addr, buf); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	if err := group.Wait(); err != nil {
		p.b.Fatal(err)
	}
	return float64(made.Load()) / time.Since(start).Seconds()
}

// once makes a connection, asks for a page and reads the beginning of the answer.
func once(addr string, buf []byte) error {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := errors.Join(c.SetDeadline(time.Now().Add(5*time.Second)), c.(*net.TCPConn).SetLinger(0)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: bench\r\n\r\n"); err != nil {
		return err
	}
	_, err = c.Read(buf)
	return err
}

// latency is the median time of a request on one connection that stays, in seconds.
func (p place) latency(url string) float64 {
	p.b.Helper()
	text := p.run("wrk", "-t", "1", "-c", "1", "-d", probeTime+"s", "--latency", url)
	return p.number(text, median) * map[string]float64{"us": 1e-6, "ms": 1e-3, "s": 1}[median.FindStringSubmatch(text)[2]]
}

func (p place) number(text string, what *regexp.Regexp) float64 {
	p.b.Helper()
	m := what.FindStringSubmatch(text)
	if bad := wrong.FindString(text); m == nil || bad != "" {
		p.b.Fatalf("wrk: %s\n%s", bad, text)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		p.b.Fatal(err)
	}
	return n
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
