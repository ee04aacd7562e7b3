package daemon

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/oci"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes"
	"github.com/dhow-project/dhow/volumes/bind"
	"github.com/dhow-project/dhow/volumes/local"
)

// hostCheck fits cluster.HostCheck: what the drivers would refuse later is
// refused before anything changes.
type hostCheck struct {
	binds *bind.Maker
	local *local.Driver
}

func newHostCheck() hostCheck { return hostCheck{binds: bind.New(), local: local.New()} }

func (h hostCheck) CheckService(s stack.Service) stack.Problems {
	var found stack.Problems
	for i, m := range s.Container.Mounts {
		if m.Type != stack.MountBind {
			continue
		}
		if err := h.binds.Check(m); err != nil {
			found = append(found, problem(err, "services.%s.volumes[%d]", s.Name, i))
		}
	}
	for i, d := range s.Container.Devices {
		if err := oci.CheckDevice(d); err != nil {
			found = append(found, problem(fmt.Errorf("device %s: %w", d.Source, err), "services.%s.devices[%d]", s.Name, i))
		}
	}
	return found
}

func (h hostCheck) CheckVolume(v stack.Volume) stack.Problems {
	if v.External || v.Driver != "" && v.Driver != volumes.DefaultDriver {
		return nil
	}
	if err := h.local.Check(v.DriverOpts); err != nil {
		return stack.Problems{problem(err, "volumes.%s.driver_opts", v.Key)}
	}
	return nil
}

// problem leaves out the kind of error, which the place says already.
func problem(err error, path string, args ...any) stack.Problem {
	text := err.Error()
	if errors.Is(err, runtime.ErrInvalid) {
		text = strings.TrimSuffix(text, ": "+runtime.ErrInvalid.Error())
	}
	return stack.Problem{Path: fmt.Sprintf(path, args...), Msg: text}
}
