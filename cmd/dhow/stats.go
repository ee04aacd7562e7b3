package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/internal/table"
)

// statsRow is a line of `dhow stats`, with docker's field names.
type statsRow struct {
	Name, Node, ID, CPUPerc, MemUsage, MemPerc, NetIO, BlockIO, PIDs string
}

func statsCmd(a *app) *cobra.Command {
	var o table.Options
	var once bool
	c := &cobra.Command{
		Use: "stats [SERVICE...]", Short: "Show what the containers use: CPU, memory, network, disk",
		Example: "  dhow stats\n  dhow stats --no-stream --format json", ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, tty := terminal(a.out)
			for {
				rows, err := a.statsRows(cmd.Context(), args)
				if err != nil {
					return err
				}
				if !once && tty {
					fmt.Fprint(a.out, "\x1b[H\x1b[J") // home, and clear what is below
				}
				if err := table.Print(a.out, a.fit(o), rows, a.statsColumns()); err != nil || once {
					return err
				}
				select {
				case <-time.After(time.Second):
				case <-cmd.Context().Done():
					return nil
				}
			}
		},
	}
	listFlags(c, &o)
	c.Flags().BoolVar(&once, "no-stream", false, "print once and end")
	return c
}

var statsColumns = []table.Column[statsRow]{
	{Head: "NAME", Value: func(r statsRow) string { return r.Name }, Min: 16},
	{Head: "CPU %", Value: func(r statsRow) string { return r.CPUPerc }},
	{Head: "MEM USAGE / LIMIT", Value: func(r statsRow) string { return r.MemUsage }},
	{Head: "MEM %", Value: func(r statsRow) string { return r.MemPerc }},
	{Head: "NET I/O", Value: func(r statsRow) string { return r.NetIO }},
	{Head: "BLOCK I/O", Value: func(r statsRow) string { return r.BlockIO }},
	{Head: "PIDS", Value: func(r statsRow) string { return r.PIDs }},
}

// statsColumns has the node of each container when there are several.
func (a *app) statsColumns() []table.Column[statsRow] {
	if !a.manyNodes() {
		return statsColumns
	}
	return slices.Insert(slices.Clone(statsColumns), 1, table.Column[statsRow]{Head: "NODE", Value: func(r statsRow) string { return r.Node }})
}

// statsRows reads all containers side by side: each takes the second between two readings.
func (a *app) statsRows(ctx context.Context, args []string) ([]statsRow, error) {
	c, list, err := a.targets(ctx, args, false)
	if err != nil {
		return nil, err
	}
	rows := make([]statsRow, len(list))
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	for i, ct := range list {
		g.Go(func() error {
			err := c.Stats(gctx, ct.ID, false, func(s container.StatsResponse) error {
				mu.Lock()
				defer mu.Unlock()
				rows[i] = statsOf(ct, s)
				rows[i].Node = a.hostOf(ct.ID)
				return nil
			})
			if client.IsNotFound(err) || client.IsConflict(err) || a.lost(ct.ID, err) {
				return nil
			}
			return err
		})
	}
	err = g.Wait()
	return slices.DeleteFunc(rows, func(r statsRow) bool { return r.ID == "" }), err // ended meanwhile, or on a node that is left out
}

func statsOf(ct container.Summary, s container.StatsResponse) statsRow {
	r := statsRow{Name: containerName(ct), ID: shortID(ct.ID), PIDs: fmt.Sprint(s.PidsStats.Current)}
	cpu, system := float64(s.CPUStats.CPUUsage.TotalUsage)-float64(s.PreCPUStats.CPUUsage.TotalUsage), float64(s.CPUStats.SystemUsage)-float64(s.PreCPUStats.SystemUsage)
	percent := 0.0
	if cpu > 0 && system > 0 {
		percent = cpu / system * float64(s.CPUStats.OnlineCPUs) * 100
	}
	r.CPUPerc = fmt.Sprintf("%.2f%%", percent)
	used := s.MemoryStats.Usage
	for _, cache := range []string{"total_inactive_file", "inactive_file"} { // page cache that can be dropped is not use: cgroup v1, v2
		if n, ok := s.MemoryStats.Stats[cache]; ok && n < used {
			used -= n
			break
		}
	}
	r.MemUsage = units.BytesSize(float64(used)) + " / " + units.BytesSize(float64(s.MemoryStats.Limit))
	if s.MemoryStats.Limit > 0 {
		r.MemPerc = fmt.Sprintf("%.2f%%", float64(used)/float64(s.MemoryStats.Limit)*100)
	}
	var rx, tx, read, written uint64
	for _, n := range s.Networks {
		rx += n.RxBytes
		tx += n.TxBytes
	}
	for _, e := range s.BlkioStats.IoServiceBytesRecursive {
		switch e.Op {
		case "Read", "read":
			read += e.Value
		case "Write", "write":
			written += e.Value
		}
	}
	r.NetIO = units.HumanSizeWithPrecision(float64(rx), 3) + " / " + units.HumanSizeWithPrecision(float64(tx), 3)
	r.BlockIO = units.HumanSizeWithPrecision(float64(read), 3) + " / " + units.HumanSizeWithPrecision(float64(written), 3)
	return r
}
