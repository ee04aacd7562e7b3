package state

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// BenchmarkTasks has as many tasks as b.N: the price of one, in commands of
// 1,000. Use it with -benchtime 1000000x.
func BenchmarkTasks(b *testing.B) {
	id := func(i int) string { return fmt.Sprintf("%016x%09d", uint64(i)*0x9E3779B97F4A7C15, i) }
	create := func(i int) Change {
		return Change{Create: &stack.Task{
			ID: id(i), Stack: fmt.Sprint("stack", i/1000), Service: fmt.Sprint("web", i%5), Slot: i % 1000, Node: id(i % 10_000), Version: 7,
			Desired: stack.DesiredRun, Created: 1, Status: stack.TaskStatus{State: stack.TaskAssigned},
		}}
	}
	status := func(i int) Change {
		return Change{Status: &Status{Task: id(i), Status: stack.TaskStatus{
			State: stack.TaskRunning, ContainerID: id(i) + id(i), ImageID: "sha256:" + id(i%7), Time: time.Unix(9, 5).UTC(), Followed: stack.DesiredRun,
		}}}
	}
	s, index := New(), uint64(0)
	for _, step := range []struct {
		name string
		make func(int) Change
	}{{"create", create}, {"status", status}} {
		b.Run(step.name, func(b *testing.B) {
			if step.name == "create" {
				s = New()
			}
			for i := 0; i < b.N; i += 1000 {
				b.StopTimer()
				var c Command
				for j := i; j < min(i+1000, b.N); j++ {
					c.Changes = append(c.Changes, step.make(j))
				}
				b.StartTimer()
				data, err := c.Encode()
				if err == nil {
					c, err = Decode(data)
				}
				index++
				if err == nil {
					err = s.Apply(index, c)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.HeapAlloc)/float64(b.N), "heap-B/task")
		})
	}
	var data bytes.Buffer
	b.Run("persist", func(b *testing.B) {
		data.Reset()
		if err := s.Snapshot().Persist(&data); err != nil {
			b.Fatal(err)
		}
	})
	b.Run("restore", func(b *testing.B) {
		if err := New().Restore(bytes.NewReader(data.Bytes())); err != nil {
			b.Fatal(err)
		}
	})
}
