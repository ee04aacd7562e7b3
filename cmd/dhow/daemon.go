package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/internal/daemon"
)

type daemonFlags struct {
	cfg       daemon.Config
	detach    bool
	logLevel  string
	logFormat string
	runtimes  map[string]string
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
			if f.detach {
				_, err := a.detachDaemon(cmd.Context(), os.Args[1:])
				return err
			}
			return f.run(cmd.Context())
		},
	}
	fl := c.Flags()
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
	fl.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fl.StringVar(&f.logFormat, "log-format", "text", "text or json")
	return c
}

func (f daemonFlags) run(ctx context.Context) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return usagef("--log-level %s: use debug, info, warn or error", f.logLevel)
	}
	cfg := f.cfg
	cfg.Version, cfg.Runtimes = version, f.runtimes
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

// startedDaemon is daemonClient, and starts a daemon when none answers on this
// machine's default socket: that is how `dhow up` works on a fresh machine.
func (a *app) startedDaemon(ctx context.Context) (*client.Client, error) {
	c, err := a.daemonClient(ctx)
	var down *client.Unreachable
	if err == nil || !errors.As(err, &down) || a.address() != client.DefaultHost || os.Geteuid() != 0 {
		return c, err
	}
	fmt.Fprintln(a.err, "no daemon answers: starting one (`dhow daemon`; for servers there is a systemd unit)")
	return a.detachDaemon(ctx, []string{"daemon"})
}

// readyTimeout bounds the start of a daemon: it has to take over every container that runs.
const readyTimeout = time.Minute

// detachDaemon starts `dhow ARGS` in the background, with its log in a file, and waits until it answers.
func (a *app) detachDaemon(ctx context.Context, args []string) (*client.Client, error) {
	var keep []string
	runDir, dataDir := daemon.DefaultRunDir, daemon.DefaultDataDir
	for i, arg := range args {
		if arg == "-d" || strings.HasPrefix(arg, "--detach") {
			continue
		}
		keep = append(keep, arg)
		value := func(flag string, to *string) {
			if v, ok := strings.CutPrefix(arg, flag+"="); ok {
				*to = v
			} else if arg == flag && i+1 < len(args) {
				*to = args[i+1]
			}
		}
		value("--run-dir", &runDir)
		value("--data-dir", &dataDir)
	}
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return nil, err
	}
	logPath := filepath.Join(dataDir, "daemon.log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	ready, err := readySocket()
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), self, keep...) // it outlives this command
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, "/"
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+ready.LocalAddr().String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its log tells more
	}()
	told := make(chan error, 1)
	go func() {
		_, err := ready.Read(make([]byte, 64))
		told <- err
	}()
	select {
	case err = <-told:
	case <-ended:
		return nil, hinted{errors.New("the daemon ended at once: " + lastLine(logPath)), "cat " + logPath}
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(readyTimeout):
		return nil, hinted{fmt.Errorf("the daemon (process %d) does not answer after %s", cmd.Process.Pid, readyTimeout), "cat " + logPath}
	}
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(a.err, "daemon started: process %d, log %s\n", cmd.Process.Pid, logPath)
	c, err := client.Dial("unix://" + filepath.Join(runDir, "dhow.sock"))
	if err != nil {
		return nil, err
	}
	return c, c.Ping(ctx)
}

// readySocket is where the daemon says that it is ready, in systemd's protocol; an abstract address leaves no file behind.
func readySocket() (*net.UnixConn, error) {
	return net.ListenUnixgram("unixgram", &net.UnixAddr{Name: fmt.Sprintf("@dhow-ready-%d", os.Getpid()), Net: "unixgram"})
}

func lastLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return lines[len(lines)-1]
}
