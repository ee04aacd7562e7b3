package engine

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/health"
	"github.com/dhow-project/dhow/runtime/oci"
	"github.com/dhow-project/dhow/stack"
	"github.com/docker/go-units"
)

// Create checks the spec and records a container; nothing heavy is made yet.
// Warnings are limits that this host cannot apply. A name in use is
// ErrConflict, a missing image ErrNotFound, what cannot be honoured ErrInvalid.
func (e *Engine) Create(ctx context.Context, name string, spec stack.ContainerSpec) (string, []string, error) {
	id := newID()
	rec, warnings, err := e.prepareRecord(ctx, id, spec)
	if err != nil {
		return "", nil, fmt.Errorf("create container: %w", err)
	}
	name, err = e.claimName(strings.TrimPrefix(name, "/"), id)
	if err != nil {
		return "", nil, err
	}
	rec.Name = name
	c := newContainer(rec, state{State: runtime.State{Status: runtime.Created}})
	if err := e.store.create(c.rec, c.st); err != nil {
		e.freeName(name, id)
		return "", nil, fmt.Errorf("create container %s: %w", name, err)
	}
	e.mu.Lock()
	e.containers[id] = c
	e.mu.Unlock()
	e.publish(c, "create")
	e.log.Debug("container created", "container", name, "id", short(id), "image", rec.Spec.Image)
	return id, warnings, nil
}

// prepareRecord resolves the image and fills in defaults.
func (e *Engine) prepareRecord(ctx context.Context, id string, spec stack.ContainerSpec) (record, []string, error) {
	spec = spec.Clone()
	ref := spec.ImageID
	if ref == "" {
		ref = spec.Image
	}
	if ref == "" {
		return record{}, nil, fmt.Errorf("no image: %w", runtime.ErrInvalid)
	}
	img, err := e.cfg.Images.Image(ctx, ref, spec.Platform)
	if err != nil {
		return record{}, nil, err
	}
	rec := record{ID: id, Created: time.Now(), Spec: spec, ImageID: img.ID, Image: img.Config}
	if err := e.defaults(&rec); err != nil {
		return record{}, nil, err
	}
	warnings, err := e.check(rec)
	return rec, warnings, err
}

// defaults fills in what follows from the image and the ID.
func (e *Engine) defaults(rec *record) error {
	s := &rec.Spec
	labels := maps.Clone(rec.Image.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, s.Labels)
	s.Labels = labels
	if s.StopSignal == "" {
		s.StopSignal = rec.Image.StopSignal
	}
	if s.Hostname == "" && s.UTSMode != "host" && s.NetworkMode != "host" {
		s.Hostname = short(rec.ID)
	}
	rec.Spec.Mounts = withImageVolumes(s.Mounts, rec.Image.Volumes)
	return nil
}

// withImageVolumes adds an anonymous volume for each VOLUME of the image that
// no mount covers.
func withImageVolumes(mounts []stack.Mount, fromImage []string) []stack.Mount {
	for _, target := range fromImage {
		target = path.Clean("/" + target)
		covered := slices.ContainsFunc(mounts, func(m stack.Mount) bool { return path.Clean(m.Target) == target })
		if !covered {
			mounts = append(mounts, stack.Mount{Type: stack.MountVolume, Target: target, FromImage: true})
		}
	}
	return mounts
}

// check refuses what could never start.
func (e *Engine) check(rec record) ([]string, error) {
	s := rec.Spec
	if _, err := e.runtimePath(s.Runtime); err != nil {
		return nil, err
	}
	if _, err := parseSignal(s.StopSignal); err != nil {
		return nil, err
	}
	if _, err := logConfig(s.Log, ""); err != nil {
		return nil, err
	}
	for _, step := range []func(stack.ContainerSpec) error{checkModes, checkMounts, checkRestart, checkHealth, checkStorage} {
		if err := step(s); err != nil {
			return nil, err
		}
	}
	for _, kind := range []string{s.NetworkMode, s.PIDMode, s.IPCMode} {
		if ref, ok := strings.CutPrefix(kind, "container:"); ok {
			if _, err := e.find(ref); err != nil {
				return nil, err
			}
		}
	}
	for _, from := range s.VolumesFrom {
		ref, _, _ := strings.Cut(strings.TrimPrefix(from, "container:"), ":")
		if _, err := e.find(ref); err != nil {
			return nil, fmt.Errorf("volumes from: %w", err)
		}
	}
	if err := checkLabels(s, e.facts.SELinux); err != nil {
		return nil, err
	}
	return oci.Check(oci.Input{ID: rec.ID, Spec: s, Image: rec.Image, Hostname: s.Hostname, InitPath: e.cfg.Init, Facts: e.facts})
}

func checkModes(s stack.ContainerSpec) error {
	for _, m := range []struct {
		what, mode string
		words      []string
	}{
		{"pid mode", s.PIDMode, []string{"", "host", "private"}},
		{"ipc mode", s.IPCMode, []string{"", "host", "private", "shareable", "none"}},
		{"uts mode", s.UTSMode, []string{"", "host"}},
		{"cgroupns mode", s.CgroupnsMode, []string{"", "host", "private"}},
	} {
		if strings.HasPrefix(m.mode, "container:") && (m.what == "pid mode" || m.what == "ipc mode") {
			continue
		}
		if !slices.Contains(m.words, m.mode) {
			return fmt.Errorf("%s %q: %w", m.what, m.mode, runtime.ErrInvalid)
		}
	}
	shared := s.NetworkMode == "host" || strings.HasPrefix(s.NetworkMode, "container:")
	if shared && len(s.Ports) > 0 && s.NetworkMode != "host" {
		return fmt.Errorf("ports cannot be published with network mode %q: %w", s.NetworkMode, runtime.ErrInvalid)
	}
	return nil
}

func checkMounts(s stack.ContainerSpec) error {
	seen := map[string]bool{}
	for _, m := range s.Mounts {
		target := path.Clean(m.Target)
		switch {
		case !path.IsAbs(m.Target) || target == "/":
			return fmt.Errorf("mount target %q: want an absolute path other than /: %w", m.Target, runtime.ErrInvalid)
		case seen[target]:
			return fmt.Errorf("two mounts at %s: %w", target, runtime.ErrInvalid)
		case m.Type == stack.MountNpipe:
			return fmt.Errorf("mount %s: named pipes are for Windows: %w", target, runtime.ErrInvalid)
		}
		seen[target] = true
	}
	for _, list := range [][]stack.FileRef{s.Secrets, s.Configs} {
		for _, f := range list {
			if !path.IsAbs(f.Target) || path.Clean(f.Target) == "/" {
				return fmt.Errorf("file %s: target %q: want an absolute path: %w", f.Source, f.Target, runtime.ErrInvalid)
			}
		}
	}
	return nil
}

func checkRestart(s stack.ContainerSpec) error {
	if !slices.Contains([]string{"", "no", "on-failure", "always", "unless-stopped"}, s.Restart.Condition) {
		return fmt.Errorf("restart policy %q: %w", s.Restart.Condition, runtime.ErrInvalid)
	}
	if s.AutoRemove && s.Restart.Condition != "" && s.Restart.Condition != "no" {
		return fmt.Errorf("a container that is removed when it ends cannot have a restart policy: %w", runtime.ErrInvalid)
	}
	if s.Restart.MaxAttempts < 0 || s.Restart.Delay < 0 || s.Restart.Window < 0 {
		return fmt.Errorf("restart policy: negative value: %w", runtime.ErrInvalid)
	}
	return nil
}

func checkHealth(s stack.ContainerSpec) error {
	h := s.Healthcheck
	if h == nil || len(h.Test) == 0 {
		return nil
	}
	if !slices.Contains([]string{"NONE", "CMD", "CMD-SHELL"}, h.Test[0]) {
		return fmt.Errorf("health check: %q: want CMD, CMD-SHELL or NONE: %w", h.Test[0], runtime.ErrInvalid)
	}
	if h.Interval < 0 || h.Timeout < 0 || h.StartPeriod < 0 || h.StartInterval < 0 || h.Retries < 0 {
		return fmt.Errorf("health check: negative value: %w", runtime.ErrInvalid)
	}
	return nil
}

// checkLabels: containers get no SELinux label, so a path must not get one that
// lets only labelled containers in. Without SELinux there is nothing to label.
func checkLabels(s stack.ContainerSpec, selinux bool) error {
	for _, m := range s.Mounts {
		if selinux && m.SELinux != "" {
			return fmt.Errorf("mount %s: option %q: containers are not confined by SELinux here, so the path needs no label; leave the option out: %w", m.Target, m.SELinux, runtime.ErrInvalid)
		}
	}
	return nil
}

func checkStorage(s stack.ContainerSpec) error {
	for key := range s.StorageOpt {
		if key == "size" {
			return fmt.Errorf("storage option size: the root file system has no quota; put the data on a volume with a size: %w", runtime.ErrInvalid)
		}
		return fmt.Errorf("storage option %q is not known to the overlayfs driver: %w", key, runtime.ErrInvalid)
	}
	return nil
}

// logSettings are the parsed options of a log.
type logSettings struct {
	Driver   string
	Path     string
	MaxSize  int64
	MaxFiles int
}

// logConfig reads the options of a log; its files are at path. The driver
// "local" rotates by default, as in Docker (20 MB, 5 files), json-file does not.
func logConfig(l stack.LogConfig, path string) (logSettings, error) {
	out := logSettings{Driver: l.Driver, Path: path}
	switch l.Driver {
	case "", "json-file", "none":
	case "local":
		out.MaxSize, out.MaxFiles = 20_000_000, 5
	default:
		return out, fmt.Errorf("log driver %q is not supported: want json-file, local or none: %w", l.Driver, runtime.ErrInvalid)
	}
	for _, key := range slices.Sorted(maps.Keys(l.Options)) {
		value := l.Options[key]
		var err error
		switch key {
		case "max-size":
			if value != "-1" {
				out.MaxSize, err = units.RAMInBytes(value)
			}
		case "max-file":
			if out.MaxFiles, err = strconv.Atoi(value); err == nil && out.MaxFiles < 1 {
				err = fmt.Errorf("want at least 1")
			}
		case "mode":
			if value != "blocking" {
				err = fmt.Errorf("only blocking is supported")
			}
		case "compress":
			if value != "false" {
				err = fmt.Errorf("older files are not compressed")
			}
		default:
			err = fmt.Errorf("not supported")
		}
		if err != nil {
			return out, fmt.Errorf("log option %s=%s: %w: %w", key, value, err, runtime.ErrInvalid)
		}
	}
	if out.MaxFiles > 1 && out.MaxSize <= 0 {
		return out, fmt.Errorf("log option max-file needs max-size: %w", runtime.ErrInvalid)
	}
	return out, nil
}

// probe is the container's health check, after defaults.
func (r record) probe() (health.Config, bool) {
	return health.Resolve(r.Spec.Healthcheck, r.Image.Healthcheck, r.Image.Shell)
}
