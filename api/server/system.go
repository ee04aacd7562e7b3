package server

import (
	"net/http"
	"os"
	"path/filepath"
	goruntime "runtime"
	"time"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/runtime"
)

func (s *server) systemRoutes() {
	s.handle("GET /_ping", s.ping) // and HEAD
	s.handle("GET /version", s.version)
	s.handle("GET /info", s.info)
	s.handle("GET /events", s.events)
	s.handle("GET /system/df", s.diskUsage)
	s.handle("POST /auth", s.login)
}

func (s *server) ping(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Builder-Version", "1")
	h.Set("Swarm", s.swarmWord())
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
		return nil
	}
	_, err := w.Write([]byte("OK"))
	return err
}

func (s *server) version(w http.ResponseWriter, _ *http.Request) error {
	kernel := kernelVersion()
	details := map[string]string{
		"ApiVersion": api.DockerVersion, "MinAPIVersion": api.DockerMinVersion, "Arch": goruntime.GOARCH, "Os": goruntime.GOOS,
		"GitCommit": s.Facts.Commit, "GoVersion": goruntime.Version(), "KernelVersion": kernel, "BuildTime": s.Facts.BuildTime, "Experimental": "false",
	}
	return ok(w, system.VersionResponse{
		Platform: system.PlatformInfo{Name: "dhow"}, Version: s.Facts.Version, APIVersion: api.DockerVersion, MinAPIVersion: api.DockerMinVersion,
		Os: goruntime.GOOS, Arch: goruntime.GOARCH, GitCommit: s.Facts.Commit, GoVersion: goruntime.Version(),
		KernelVersion: kernel, BuildTime: s.Facts.BuildTime,
		Components: []system.ComponentVersion{{Name: "Engine", Version: s.Facts.Version, Details: details}},
	})
}

func kernelVersion() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func (s *server) info(w http.ResponseWriter, r *http.Request) error {
	all, err := s.Engine.List(r.Context(), runtime.Filter{All: true})
	if err != nil {
		return err
	}
	images, err := s.Images.List(r.Context())
	if err != nil {
		return err
	}
	f := &s.Facts
	v2 := cgroupV2()
	out := system.Info{
		ID: s.nodeID(), Name: f.Hostname, ServerVersion: f.Version, Containers: len(all), Images: len(images),
		Driver: first(f.StorageDriver, "overlayfs"), DriverStatus: [][2]string{},
		Plugins: system.PluginsInfo{Volume: []string{"local"}, Network: []string{"bridge", "host", "null", "overlay"},
			Authorization: []string{}, Log: []string{"json-file", "local", "none"}},
		MemoryLimit: true, SwapLimit: true, CPUCfsPeriod: true, CPUCfsQuota: true, CPUShares: true, CPUSet: true, PidsLimit: true,
		OomKillDisable: !v2, IPv4Forwarding: true, NFd: openFiles(), NGoroutines: goruntime.NumGoroutine(),
		SystemTime: time.Now().Format(time.RFC3339Nano), LoggingDriver: "json-file",
		CgroupDriver: first(f.CgroupDriver, "cgroupfs"), CgroupVersion: map[bool]string{true: "2", false: "1"}[v2],
		KernelVersion: kernelVersion(), OSType: goruntime.GOOS, Architecture: machine(), IndexServerAddress: "https://index.docker.io/v1/",
		RegistryConfig: &registry.ServiceConfig{IndexConfigs: map[string]*registry.IndexInfo{
			"docker.io": {Name: "docker.io", Mirrors: list(f.Mirrors), Secure: true, Official: true}}, Mirrors: list(f.Mirrors)},
		NCPU: goruntime.NumCPU(), MemTotal: memoryTotal(), GenericResources: []swarm.GenericResource{}, DockerRootDir: f.DataDir,
		HTTPProxy: os.Getenv("HTTP_PROXY"), HTTPSProxy: os.Getenv("HTTPS_PROXY"), NoProxy: os.Getenv("NO_PROXY"),
		Labels: list(f.Labels), Runtimes: map[string]system.RuntimeWithStatus{}, DefaultRuntime: first(f.DefaultRuntime, "runc"),
		Swarm: swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive, RemoteManagers: []swarm.Peer{}}, LiveRestoreEnabled: true, InitBinary: "docker-init",
		SecurityOptions: []string{"name=seccomp,profile=builtin"}, CDISpecDirs: []string{"/etc/cdi", "/var/run/cdi"}, Warnings: list(f.Warnings),
	}
	out.RegistryConfig.InsecureRegistryCIDRs = loopback()
	out.OperatingSystem, out.OSVersion = operatingSystem()
	out.Runtimes[out.DefaultRuntime] = system.RuntimeWithStatus{Runtime: system.Runtime{Path: out.DefaultRuntime}}
	for name, path := range f.Runtimes {
		out.Runtimes[name] = system.RuntimeWithStatus{Runtime: system.Runtime{Path: path}}
	}
	if v2 {
		out.SecurityOptions = append(out.SecurityOptions, "name=cgroupns")
	}
	if f.WarningsNow != nil {
		out.Warnings = append(out.Warnings, f.WarningsNow()...)
	}
	s.describeSwarm(r.Context(), &out)
	countStates(&out, all)
	return ok(w, out)
}

func countStates(out *system.Info, all []runtime.Container) {
	for i := range all {
		switch all[i].State.Status {
		case runtime.Paused:
			out.ContainersPaused++
		case runtime.Running, runtime.Restarting:
			out.ContainersRunning++
		default:
			out.ContainersStopped++
		}
	}
}

func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries)
}

// diskUsage answers in the shape that clients up to API 1.51 read.
func (s *server) diskUsage(w http.ResponseWriter, r *http.Request) error {
	types := r.URL.Query()["type"]
	for _, t := range types {
		if !contains([]string{"container", "image", "volume", "build-cache"}, t) {
			return invalid("unknown object type: %s", t)
		}
	}
	wants := func(t string) bool { return len(types) == 0 || contains(types, t) }
	out := api.DiskUsage{BuildCache: []struct{}{}}
	var err error
	if wants("image") {
		if out.Images, err = s.imageSummaries(r, filters{}); err != nil {
			return err
		}
		if out.LayersSize, err = s.layersSize(r, &out); err != nil {
			return err
		}
	}
	if wants("container") {
		if err := s.containerUsage(r, &out); err != nil {
			return err
		}
	}
	if wants("volume") {
		if err := s.volumeUsage(r, &out); err != nil {
			return err
		}
	}
	return ok(w, out)
}

func (s *server) containerUsage(r *http.Request, out *api.DiskUsage) error {
	all, err := s.Engine.List(r.Context(), runtime.Filter{All: true})
	if err != nil {
		return err
	}
	now := time.Now()
	for i := range all {
		sum := toSummary(&all[i], now)
		if sum.SizeRw, sum.SizeRootFs, err = s.sizes(r.Context(), &all[i]); err != nil {
			return err
		}
		out.Containers = append(out.Containers, sum)
	}
	out.Containers = list(out.Containers)
	return nil
}

func (s *server) volumeUsage(r *http.Request, out *api.DiskUsage) error {
	all, err := s.Volumes.List(r.Context())
	if err != nil {
		return err
	}
	for _, v := range all {
		size, err := s.Volumes.Usage(r.Context(), v.Name)
		if err != nil {
			size = -1 // not available, in Docker's words
		}
		view := toVolume(v)
		view.UsageData = &volume.UsageData{RefCount: int64(len(s.Volumes.Users(v.Name))), Size: size}
		out.Volumes = append(out.Volumes, view)
	}
	out.Volumes = list(out.Volumes)
	return nil
}

// system tells facts about the daemon.
func (s *server) system(w http.ResponseWriter, _ *http.Request) error {
	f := &s.Facts
	return ok(w, api.System{ID: s.nodeID(), Hostname: f.Hostname, Version: f.Version, Commit: f.Commit, GoVersion: goruntime.Version(),
		Pid: os.Getpid(), Started: f.Started, DataDir: f.DataDir, RunDir: f.RunDir})
}

// cgroupV2 reports whether this is a cgroup v2 machine.
func cgroupV2() bool {
	_, err := os.Stat(filepath.Join("/sys/fs/cgroup", "cgroup.controllers"))
	return err == nil
}
