package main

import (
	"context"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dhow-project/dhow/internal/daemon"
)

type daemonFlags struct {
	cfg       daemon.Config
	detach    bool
	logLevel  string
	logFormat string
	runtimes  map[string]string
	generic   map[string]int64
	mirrors   []string
}

func daemonCmd(a *app) *cobra.Command {
	var f daemonFlags
	c := &cobra.Command{
		Use: "daemon", Short: "Run the daemon of this machine", Args: cobra.NoArgs,
		Long: `Run the daemon of this machine, in the foreground unless --detach.

Containers belong to small processes of their own: they outlive the daemon, and the next one takes
them over.
Several daemons share one machine when each has its own directories and network namespace.`,
		Example: `  dhow daemon
  dhow daemon --detach
  dhow daemon --data-dir /srv/dhow --run-dir /run/dhow2
  dhow daemon --mirror docker.io=https://mirror.example`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.absolute(); err != nil {
				return err
			}
			if f.detach {
				_, err := a.detachDaemon(cmd.Context(), f.cfg, f.again(cmd.Flags()))
				return err
			}
			return f.run(cmd.Context())
		},
	}
	c.Flags().AddFlagSet(daemonFlagSet(&f))
	return c
}

func daemonFlagSet(f *daemonFlags) *pflag.FlagSet {
	fl := pflag.NewFlagSet("daemon", pflag.ContinueOnError)
	fl.StringVar(&f.cfg.DataDir, "data-dir", daemon.DefaultDataDir, "state, images, containers and volumes")
	fl.StringVar(&f.cfg.RunDir, "run-dir", daemon.DefaultRunDir, "socket and what may be lost at a reboot")
	fl.BoolVarP(&f.detach, "detach", "d", false, "run in the background and return when it answers")
	fl.StringVar(&f.cfg.Shim, "shim", "", "path of dhow-shim (default: beside this program, then PATH)")
	fl.StringToStringVar(&f.runtimes, "runtime", nil, "further OCI runtime: NAME=PATH")
	fl.StringVar(&f.cfg.DefaultRuntime, "default-runtime", "runc", "OCI runtime of containers that name none")
	fl.StringVar(&f.cfg.CgroupParent, "cgroup-parent", "", "parent of the containers' cgroups (default: of this daemon's own)")
	fl.StringArrayVar(&f.mirrors, "mirror", nil, "registry mirror: HOST=URL, asked before the registry itself")
	fl.StringArrayVar(&f.cfg.InsecureRegistries, "insecure-registry", nil, "registry host or network without valid certificate")
	fl.StringArrayVar(&f.cfg.CertsDirs, "certs-dir", nil, "directory with HOST/ca.crt of registries (default: /etc/dhow/certs.d and /etc/docker/certs.d)")
	fl.StringArrayVar(&f.cfg.AddressPools, "address-pool", nil, "addresses for networks: BASE,SIZE such as 10.100.0.0/16,24")
	fl.StringArrayVar(&f.cfg.DNSForward, "dns-forward", nil, "resolvers that know the names of a domain: DOMAIN=ADDRESS[,ADDRESS] such as corp.example=10.0.0.53")
	fl.StringToStringVar(&f.cfg.Labels, "label", nil, "label of this machine for placement: KEY=VALUE (engine.labels.KEY)")
	fl.StringToInt64Var(&f.generic, "generic-resource", nil, "what this machine has for tasks beside CPU and memory: KIND=COUNT such as gpu=2")
	fl.IntVar(&f.cfg.GossipPort, "gossip-port", 0, "UDP and TCP port of the gossip between nodes (default 7946)")
	fl.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fl.StringVar(&f.logFormat, "log-format", "text", "text or json")
	return fl
}

func (f daemonFlags) run(ctx context.Context) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return usagef("--log-level %s: use debug, info, warn or error", f.logLevel)
	}
	cfg := f.cfg
	cfg.Version, cfg.Runtimes, cfg.Generic = version, f.runtimes, f.generic
	for kind, n := range f.generic {
		if kind == "" || n < 0 {
			return usagef("--generic-resource %s=%d: use KIND=COUNT", kind, n)
		}
	}
	switch f.logFormat {
	case "text":
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	case "json":
		cfg.Log = slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	default:
		return usagef("--log-format %s: use text or json", f.logFormat)
	}
	for _, m := range f.mirrors {
		host, url, ok := strings.Cut(m, "=")
		if !ok {
			return usagef("--mirror %s: use HOST=URL", m)
		}
		if cfg.Mirrors == nil {
			cfg.Mirrors = map[string][]string{}
		}
		cfg.Mirrors[host] = append(cfg.Mirrors[host], url)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // an idle daemon's memory matters more than the collector's time
	}
	return daemon.Run(ctx, cfg)
}
