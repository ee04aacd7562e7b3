package netlab

import (
	"errors"
	"runtime"
	"sync"
	"testing"
)

// Load makes the images available on the host.
func (h *Host) Load(refs ...string) { h.t.Helper(); Load(h.t, []*Host{h}, refs...) }

// Load makes the images available on hosts, on as many at a time as there are
// cores: to unpack a large one takes seconds of a core.
func Load(t testing.TB, hosts []*Host, refs ...string) {
	t.Helper()
	if len(hosts) == 0 || len(refs) == 0 {
		return
	}
	paths := Images(t, refs...)
	errs := make([]error, len(hosts))
	cores := make(chan struct{}, runtime.NumCPU())
	var loads sync.WaitGroup
	for i, h := range hosts {
		loads.Go(func() {
			cores <- struct{}{}
			defer func() { <-cores }()
			errs[i] = h.load(refs, paths)
		})
	}
	loads.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// load loads the archives that have not been.
func (h *Host) load(refs, paths []string) error {
	for i, path := range paths {
		h.mu.Lock()
		have := h.loaded[refs[i]]
		h.loaded[refs[i]] = true
		h.mu.Unlock()
		if !have {
			if err := h.Try("load", "--quiet", "--input", path).Err(); err != nil {
				return err
			}
		}
	}
	return nil
}
