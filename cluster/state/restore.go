package state

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/dhow-project/dhow/stack"
)

// Restore replaces the state by what Persist wrote. When r is damaged or cut
// off it fails and leaves the state as it was.
func (s *Store) Restore(r io.Reader) error {
	t := newTables()
	if err := t.load(r); err != nil {
		return fmt.Errorf("restore state: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tables = t
	s.feed.reset(t.index)
	s.notifyLocked()
	return nil
}

func (t *tables) load(r io.Reader) error {
	in := bufio.NewReaderSize(r, 1<<20)
	first, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("header: %w", cutOff(err))
	}
	var h header
	if err := json.Unmarshal(first, &h); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if h.Magic != magic || h.Format != format {
		return fmt.Errorf("not a state of this format: %q %d", h.Magic, h.Format)
	}
	t.index, t.fleet = h.Index, h.Index
	if count, err := t.loadRecords(in); err != nil {
		return fmt.Errorf("record %d: %w", count+1, err)
	}
	return nil
}

// cutOff: nothing ends well without an end line.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// chunk is some lines on their way to be records; made by several goroutines
// at once, because that takes three times as long as reading them and putting
// them in their place, which is done by one.
type chunk struct {
	lines   [][]byte
	records []any
	err     error // of the record after the last
	end     *line
	done    chan struct{}
}

const chunkLines = 256

// loadRecords reads up to the end line and returns the number of records.
func (t *tables) loadRecords(in *bufio.Reader) (count int, err error) {
	chunks := make(chan *chunk, 2*runtime.GOMAXPROCS(0))
	go readChunks(in, chunks)
	e := &edit{}
	for c := range chunks { // all of them, also after an error: nobody else waits for the goroutines
		<-c.done
		if err != nil {
			continue
		}
		for _, r := range c.records {
			t.load1(e, r)
		}
		count += len(c.records)
		if err = c.err; err == nil && c.end != nil && c.end.Count != count {
			err = fmt.Errorf("the end speaks of %d records", c.end.Count)
		}
	}
	return count, err
}

func readChunks(in *bufio.Reader, chunks chan<- *chunk) {
	defer close(chunks)
	for {
		c := &chunk{done: make(chan struct{}), lines: make([][]byte, 0, chunkLines)}
		var err error
		for err == nil && len(c.lines) < chunkLines {
			var l []byte
			if l, err = in.ReadBytes('\n'); err == nil {
				c.lines = append(c.lines, l)
				if isEnd(l) {
					break
				}
			}
		}
		last := err != nil || isEnd(c.lines[len(c.lines)-1])
		go c.decode(err)
		chunks <- c
		if last {
			return
		}
	}
}

var endLine = []byte(`{"t":"` + string(tableEnd) + `"`)

func isEnd(l []byte) bool { return bytes.HasPrefix(l, endLine) }

// decode makes records of the lines; then is the error of reading on.
func (c *chunk) decode(then error) {
	defer close(c.done)
	c.records = make([]any, 0, len(c.lines))
	for _, data := range c.lines {
		var l line
		if c.err = l.parse(data); c.err != nil {
			return
		}
		if l.Table == tableEnd {
			c.end = &l
			return
		}
		r := newRecord(l.Table)
		if r == nil {
			c.err = fmt.Errorf("table %q is not known", l.Table)
			return
		}
		if err := json.Unmarshal(l.Value, r); err != nil {
			c.err = fmt.Errorf("%s: %w", l.Table, err)
			return
		}
		c.records = append(c.records, r)
	}
	c.lines = nil
	if then != nil {
		c.err = cutOff(then)
	}
}

// parse finds table and value in a line as Persist writes it, without a look
// into the value; whatever else is there is for the parser of JSON.
func (l *line) parse(data []byte) error {
	rest, ok := bytes.CutPrefix(data, []byte(`{"t":"`))
	table, value, found := bytes.Cut(rest, []byte(`","v":`))
	value, whole := bytes.CutSuffix(value, []byte("}\n"))
	if ok && found && whole && len(table) < 20 && !bytes.ContainsAny(table, `"\`) {
		l.Table, l.Value = Table(table), value
		return nil
	}
	return json.Unmarshal(data, l)
}

// pastTask is a task that has ended: another table of the same records.
type pastTask struct{ stack.Task }

func newRecord(table Table) any {
	switch table {
	case TableCluster:
		return new(Cluster)
	case TableNode:
		return new(stack.Node)
	case TableStack:
		return new(Stack)
	case TableService:
		return new(Service)
	case TableTask:
		return new(stack.Task)
	case TablePast:
		return new(pastTask)
	case TableNetwork:
		return new(Network)
	case TableVolume:
		return new(Volume)
	case TableSecret:
		return new(Secret)
	case TableConfig:
		return new(Config)
	case TableEndpoint:
		return new(Endpoint)
	case TableRevision:
		return new(Revision)
	}
	return nil
}

// load1 puts one record into its table.
func (t *tables) load1(e *edit, r any) {
	switch r := r.(type) {
	case *Cluster:
		t.cluster = r
	case *stack.Node:
		t.nodes.put(e, r)
	case *Stack:
		t.stacks.put(e, r)
	case *Service:
		t.services.put(e, r)
	case *stack.Task:
		t.shareNetworks(r)
		t.putTask(e, r)
	case *pastTask:
		t.past.replace(e, nil, &r.Task)
	case *Network:
		t.putNetwork(e, r)
	case *Volume:
		t.volumes.put(e, r)
	case *Secret:
		t.secrets.put(e, r)
	case *Config:
		t.configs.put(e, r)
	case *Endpoint:
		t.putEndpoint(e, r)
	case *Revision:
		t.putRevision(e, r)
	}
}
