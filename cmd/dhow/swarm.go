package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/moby/moby/api/types/swarm"
	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/internal/table"
)

// clusterPort is where nodes reach each other unless told otherwise.
const clusterPort = "2377"

func swarmCmd(a *app) *cobra.Command {
	return group("swarm", "The cluster: open, join, leave, settings, snapshots",
		"  dhow swarm init --advertise-addr 10.0.0.1\n  dhow swarm join-token worker\n  dhow swarm snapshot save state.snap",
		swarmInitCmd(a), swarmJoinCmd(a), swarmLeaveCmd(a), swarmTokenCmd(a), swarmUpdateCmd(a), swarmCACmd(a), swarmInspectCmd(a), snapshotCmd(a))
}

// placeFlags say where a node is found by the others.
type placeFlags struct{ listen, advertise, dataPath, availability string }

func (f *placeFlags) register(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVar(&f.listen, "listen-addr", "0.0.0.0:"+clusterPort, "`ADDRESS[:PORT]` or interface to listen on for other nodes")
	fl.StringVar(&f.advertise, "advertise-addr", "", "`ADDRESS[:PORT]` or interface where other nodes reach this one")
	fl.StringVar(&f.dataPath, "data-path-addr", "", "`ADDRESS` or interface for traffic between containers (default: --advertise-addr)")
	fl.StringVar(&f.availability, "availability", "active", "of this node for tasks: active, pause or drain")
	mustComplete(c.RegisterFlagCompletionFunc("availability", cobra.FixedCompletions([]string{"active", "pause", "drain"}, cobra.ShellCompDirectiveNoFileComp)))
}

// clusterFlags are the settings of a cluster. Those that were not given stay as they are.
type clusterFlags struct {
	history    int64
	expiry     time.Duration
	snapshot   uint64
	autolock   bool
	heartbeat  time.Duration
	externalCA []string
	keepOld    uint64
	workers    string
	vnis       string
}

func (f *clusterFlags) register(c *cobra.Command) {
	fl := c.Flags()
	fl.Int64Var(&f.history, "task-history-limit", 5, "ended tasks to keep for each container slot")
	fl.DurationVar(&f.expiry, "cert-expiry", 90*24*time.Hour, "validity of node certificates; they are renewed before it is over")
	fl.Uint64Var(&f.snapshot, "snapshot-interval", 4096, "changes between two snapshots of the log")
	fl.StringVar(&f.workers, "worker-requests", "all", "what may be asked on workers: all, or none: the cluster's commands on managers only")
	fl.StringVar(&f.vnis, "vni-range", "", "`FIRST-LAST`: VXLAN identifiers of new networks (default 65536-16777215)")
	fl.BoolVar(&f.autolock, "autolock", false, "lock managers until a key is given (not there yet: refused)")
	fl.DurationVar(&f.heartbeat, "dispatcher-heartbeat", 0, "not supported: losses are noticed in about 2 s")
	fl.StringArrayVar(&f.externalCA, "external-ca", nil, "not supported: the cluster signs its certificates itself")
	fl.Uint64Var(&f.keepOld, "max-snapshots", 0, "not supported: dhow swarm snapshot save keeps one where you like")
	for _, name := range []string{"dispatcher-heartbeat", "external-ca", "max-snapshots"} {
		mustHide(c, name)
	}
}

// apply writes the given flags to spec.
func (f *clusterFlags) apply(c *cobra.Command, spec *swarm.Spec) error {
	given := c.Flags().Changed
	switch {
	case f.autolock:
		return usagef("--autolock: dhow does not lock managers yet; the keys in the data directory are readable by root only")
	case given("dispatcher-heartbeat"):
		return usagef("--dispatcher-heartbeat is not supported: a lost node is noticed in about 2 s, and its lease is 5 s")
	case given("external-ca"):
		return usagef("--external-ca is not supported: the cluster signs its certificates itself")
	case given("max-snapshots") && f.keepOld != 0:
		return usagef("--max-snapshots is not supported: dhow swarm snapshot save keeps one where you like")
	case f.workers != "all" && f.workers != "none":
		return usagef("--worker-requests %s: use all or none", f.workers)
	case given("task-history-limit") && f.history < 0:
		return usagef("--task-history-limit %d: a history without a limit is not supported", f.history)
	}
	if given("task-history-limit") {
		spec.Orchestration.TaskHistoryRetentionLimit = &f.history
	}
	for flag, value := range map[string]string{"worker-requests": f.workers, "vni-range": f.vnis} {
		if !given(flag) {
			continue
		}
		if spec.Labels == nil {
			spec.Labels = map[string]string{}
		}
		spec.Labels["dhow."+flag] = value
	}
	if given("cert-expiry") {
		spec.CAConfig.NodeCertExpiry = f.expiry
	}
	if given("snapshot-interval") {
		spec.Raft.SnapshotInterval = f.snapshot
	}
	return nil
}

func swarmInitCmd(a *app) *cobra.Command {
	var req swarm.InitRequest
	var place placeFlags
	var set clusterFlags
	var pools []string
	c := &cobra.Command{
		Use: "init", Short: "Open this node's cluster to others", Args: cobra.NoArgs,
		Long: `Open this node's cluster to others: it listens for them, and prints how they join. Stacks that run
here go on.

With --force-new-cluster a manager that has lost most of the others goes on alone, with the state
that it has: the way out when a majority of the managers is gone for good. The other nodes join it
again by themselves, other managers have to leave and join.

Networks get their addresses from --default-addr-pool, else from the ranges that dhow daemon
--address-pool has. A pool of IPv6 is cut into networks of a /64.`,
		Example: "  dhow swarm init --advertise-addr 10.0.0.1\n  dhow swarm init --advertise-addr eth1 --data-path-addr eth2\n" +
			"  dhow swarm init --default-addr-pool 10.20.0.0/14 --default-addr-pool-mask-length 24\n  dhow swarm init --force-new-cluster",
		RunE: func(cmd *cobra.Command, _ []string) error {
			req.ListenAddr, req.AdvertiseAddr, req.DataPathAddr = place.listen, place.advertise, place.dataPath
			req.Availability = swarm.NodeAvailability(place.availability)
			for _, p := range pools {
				prefix, err := netip.ParsePrefix(p)
				if err != nil {
					return usagef("--default-addr-pool %s: use a subnet such as 10.20.0.0/16", p)
				}
				req.DefaultAddrPool = append(req.DefaultAddrPool, prefix)
			}
			if err := set.apply(cmd, &req.Spec); err != nil {
				return err
			}
			return a.swarmInit(cmd.Context(), req)
		},
	}
	place.register(c)
	set.register(c)
	c.Flags().BoolVar(&req.ForceNewCluster, "force-new-cluster", false, "go on alone with this node's state, when most managers are lost")
	c.Flags().Uint32Var(&req.DataPathPort, "data-path-port", 0, "UDP `PORT` of traffic between containers, 1024 to 49151 (default 4789)")
	c.Flags().StringArrayVar(&pools, "default-addr-pool", nil, "`SUBNET` that networks get their addresses from; several may be given")
	c.Flags().Uint32Var(&req.SubnetSize, "default-addr-pool-mask-length", 24, "size of each IPv4 network in the pools")
	return c
}

func (a *app) swarmInit(ctx context.Context, req swarm.InitRequest) error {
	c, err := a.startedDaemon(ctx)
	if err != nil {
		return err
	}
	id, err := c.InitSwarm(ctx, req)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "The cluster is open to other nodes; this node, %s, is a manager.\n\n", id)
	if err := a.printJoin(ctx, c, "worker"); err != nil {
		return err
	}
	fmt.Fprintln(a.out, "To add a manager, run `dhow swarm join-token manager` here and follow what it says.")
	return nil
}

// printJoin prints the command that adds a node of a role.
func (a *app) printJoin(ctx context.Context, c *client.Client, role string) error {
	sw, err := c.Swarm(ctx)
	if err != nil {
		return err
	}
	info, err := c.Info(ctx)
	if err != nil {
		return err
	}
	addr := ""
	if n, err := c.Node(ctx, info.Swarm.NodeID, client.Reading{}); err == nil && n.ManagerStatus != nil {
		addr = n.ManagerStatus.Addr
	}
	for _, m := range info.Swarm.RemoteManagers {
		if addr == "" {
			addr = m.Addr // this node is a worker: any manager will do
		}
	}
	token := map[string]string{"worker": sw.JoinTokens.Worker, "manager": sw.JoinTokens.Manager}[role]
	fmt.Fprintf(a.out, "To add a %s, run on it:\n\n    dhow swarm join --token %s %s\n\n", role, token, addr)
	return nil
}

func swarmJoinCmd(a *app) *cobra.Command {
	var place placeFlags
	var token string
	c := &cobra.Command{
		Use: "join ADDRESS[:PORT]...", Short: "Make this node part of a cluster", Args: cobra.MinimumNArgs(1),
		Long: `Make this node part of a cluster, as a worker or a manager: the token says which. Any manager's
address will do, several may be given. Stacks of this node's own must have been taken down.`,
		Example: "  dhow swarm join --token DHOWTKN-1-... 10.0.0.1:2377",
		RunE: func(cmd *cobra.Command, args []string) error {
			if token == "" {
				return hinted{usagef("--token is missing"), "dhow swarm join-token worker     on a manager"}
			}
			c, err := a.startedDaemon(cmd.Context())
			if err != nil {
				return err
			}
			req := swarm.JoinRequest{ListenAddr: place.listen, AdvertiseAddr: place.advertise, DataPathAddr: place.dataPath,
				RemoteAddrs: args, JoinToken: token, Availability: swarm.NodeAvailability(place.availability)}
			if err := c.JoinSwarm(cmd.Context(), req); err != nil {
				return err
			}
			info, err := c.Info(cmd.Context())
			if err != nil {
				return err
			}
			role := "worker"
			if info.Swarm.ControlAvailable {
				role = "manager"
			}
			fmt.Fprintf(a.out, "This node is part of the cluster, as a %s.\n", role)
			return nil
		},
	}
	place.register(c)
	c.Flags().StringVar(&token, "token", "", "join token, from dhow swarm join-token")
	return c
}

func swarmLeaveCmd(a *app) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "leave", Short: "Take this node out of its cluster", Args: cobra.NoArgs,
		Long: `Take this node out of its cluster. Its tasks are replaced on other nodes; volumes and images stay.
A manager has to be demoted first, or leave with --force: the others must then keep a majority.`,
		Example: "  dhow swarm leave\n  dhow node demote self && dhow swarm leave",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			if err := c.LeaveSwarm(cmd.Context(), force); err != nil {
				return err
			}
			fmt.Fprintln(a.out, "Node left the cluster.")
			return nil
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "also as a manager")
	return c
}

func swarmTokenCmd(a *app) *cobra.Command {
	var rotate, quiet bool
	c := &cobra.Command{
		Use: "join-token worker|manager", Short: "Print how a node joins, or replace the token", Args: cobra.ExactArgs(1),
		Example:   "  dhow swarm join-token worker\n  dhow swarm join-token -q manager\n  dhow swarm join-token --rotate worker     the old one is worth nothing then",
		ValidArgs: []string{"worker", "manager"},
		RunE: func(cmd *cobra.Command, args []string) error {
			role := args[0]
			if role != "worker" && role != "manager" {
				return usagef("%s: use worker or manager", role)
			}
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			if rotate {
				u := client.SwarmUpdate{RotateWorkerToken: role == "worker", RotateManagerToken: role == "manager"}
				if err := a.changeSwarm(cmd.Context(), c, u, func(*swarm.Spec) error { return nil }); err != nil {
					return err
				}
			}
			if !quiet {
				return a.printJoin(cmd.Context(), c, role)
			}
			sw, err := c.Swarm(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, map[string]string{"worker": sw.JoinTokens.Worker, "manager": sw.JoinTokens.Manager}[role])
			return nil
		},
	}
	c.Flags().BoolVar(&rotate, "rotate", false, "make a new token; nodes that have joined stay")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the token only")
	return c
}

// attempts bounds how often a change is tried again that met another one.
const attempts = 5

// changeSwarm reads the settings, changes and writes them; when somebody else did so meanwhile, again.
func (a *app) changeSwarm(ctx context.Context, c *client.Client, u client.SwarmUpdate, change func(*swarm.Spec) error) error {
	for try := 1; ; try++ {
		sw, err := c.Swarm(ctx)
		if err != nil {
			return err
		}
		if err := change(&sw.Spec); err != nil {
			return err
		}
		err = c.UpdateSwarm(ctx, sw.Version.Index, sw.Spec, u)
		if !client.IsConflict(err) || try == attempts {
			return err
		}
	}
}

func swarmUpdateCmd(a *app) *cobra.Command {
	var set clusterFlags
	c := &cobra.Command{
		Use: "update", Short: "Change settings of the cluster", Args: cobra.NoArgs,
		Example: "  dhow swarm update --task-history-limit 2\n  dhow swarm update --cert-expiry 720h\n  dhow swarm update --vni-range 5000-5999     of new networks; others keep theirs",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().NFlag() == 0 {
				return usagef("nothing to change: give a flag")
			}
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			if err := a.changeSwarm(cmd.Context(), c, client.SwarmUpdate{}, func(spec *swarm.Spec) error { return set.apply(cmd, spec) }); err != nil {
				return err
			}
			fmt.Fprintln(a.out, "Cluster updated.")
			return nil
		},
	}
	set.register(c)
	return c
}

func swarmCACmd(a *app) *cobra.Command {
	var rotate, detach, quiet bool
	var cert, key string
	var expiry time.Duration
	c := &cobra.Command{
		Use: "ca", Short: "Print the root certificate, or replace it", Args: cobra.NoArgs,
		Long: `Print the certificate of the cluster's authority, which every node trusts. With --rotate a new
one takes its place: nodes get certificates of it while both are trusted, then the old one is not
any more. Join tokens are new then, too.`,
		Example: "  dhow swarm ca\n  dhow swarm ca --rotate\n  dhow swarm ca --rotate --ca-cert root.pem --ca-key root.key",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !rotate && (cert != "" || key != "" || detach || cmd.Flags().Changed("cert-expiry")) {
				return usagef("--ca-cert, --ca-key, --cert-expiry and --detach go with --rotate")
			}
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			if rotate {
				if err := a.rotateCA(cmd.Context(), c, cert, key, expiry); err != nil || detach {
					return err
				}
				if err := a.rotated(cmd.Context(), c, quiet); err != nil {
					return err
				}
			}
			sw, err := c.Swarm(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprint(a.out, sw.TLSInfo.TrustRoot)
			return nil
		},
	}
	fl := c.Flags()
	fl.BoolVar(&rotate, "rotate", false, "replace it; returns when every node has a certificate of the new one")
	fl.BoolVarP(&detach, "detach", "d", false, "return when the rotation has begun")
	fl.BoolVarP(&quiet, "quiet", "q", false, "no progress")
	fl.StringVar(&cert, "ca-cert", "", "`FILE` of the new root certificate, PEM (default: one is made)")
	fl.StringVar(&key, "ca-key", "", "`FILE` of its key, PEM")
	fl.DurationVar(&expiry, "cert-expiry", 0, "validity of node certificates")
	return c
}

func (a *app) rotateCA(ctx context.Context, c *client.Client, certFile, keyFile string, expiry time.Duration) error {
	if (certFile == "") != (keyFile == "") {
		return usagef("--ca-cert and --ca-key go together")
	}
	var cert, key []byte
	if certFile != "" {
		var errs [2]error
		cert, errs[0] = os.ReadFile(certFile)
		key, errs[1] = os.ReadFile(keyFile)
		if err := errors.Join(errs[:]...); err != nil {
			return err
		}
	}
	return a.changeSwarm(ctx, c, client.SwarmUpdate{}, func(spec *swarm.Spec) error {
		spec.CAConfig.ForceRotate++
		spec.CAConfig.SigningCACert, spec.CAConfig.SigningCAKey = string(cert), string(key)
		if expiry != 0 {
			spec.CAConfig.NodeCertExpiry = expiry
		}
		return nil
	})
}

// lookAgain is between two looks at something that takes its time.
const lookAgain = 500 * time.Millisecond

// rotated waits for the end of a rotation.
func (a *app) rotated(ctx context.Context, c *client.Client, quiet bool) error {
	said := false
	for {
		sw, err := c.Swarm(ctx)
		if err != nil && !client.IsUnavailable(err) {
			return err
		}
		if err == nil && !sw.RootRotationInProgress {
			return nil
		}
		if !quiet && !said {
			fmt.Fprintln(a.err, "waiting until all nodes that are up have a certificate of the new root")
			said = true
		}
		select {
		case <-time.After(lookAgain):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func swarmInspectCmd(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "inspect", Short: "Print the settings of the cluster", Args: cobra.NoArgs,
		Example: "  dhow swarm inspect\n  dhow swarm inspect --format '{{.ID}}'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			sw, err := c.Swarm(cmd.Context())
			if err != nil {
				return err
			}
			if format != "" {
				return table.Print(a.out, table.Options{Format: format}, []any{sw.ClusterInfo}, []table.Column[any]{})
			}
			return printJSON(a.out, sw.ClusterInfo) // without the tokens: join-token prints those
		},
	}
	c.Flags().StringVar(&format, "format", "", "json (one object a line), or a Go template")
	return c
}
