package server

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/swarm"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

var errNotInSwarm = say(cluster.ErrInSwarm, "%s", `This node is not a swarm manager. Use "swarm init" or "swarm join" to connect this node to swarm and try again.`)

func (s *server) initSwarm(w http.ResponseWriter, r *http.Request) error {
	var req swarm.InitRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	if req.AutoLockManagers || req.Spec.EncryptionConfig.AutoLockManagers {
		return notYet("not offered yet: locking managers (autolock)")
	}
	set, err := toSettings(&req.Spec, cluster.Settings{})
	if err != nil {
		return err
	}
	if set.AddressPools, err = pools(req.DefaultAddrPool, req.SubnetSize); err != nil {
		return err
	}
	if p := req.DataPathPort; p != 0 && (p < 1024 || p > 49151) {
		return invalid("DataPathPort: %d is not between 1024 and 49151", p)
	}
	set.DataPathPort = int(req.DataPathPort)
	if len(set.AddressPools) > 0 { // docker's client sends a size without pools too
		set.SubnetSize = int(req.SubnetSize)
	}
	avail, err := toAvailability(req.Availability)
	if err != nil {
		return err
	}
	node, err := s.Cluster.Init(r.Context(), cluster.InitOptions{Listen: req.ListenAddr, Advertise: req.AdvertiseAddr,
		DataPath: req.DataPathAddr, ForceNew: req.ForceNewCluster, Settings: set, Availability: avail})
	if err != nil {
		return err
	}
	return ok(w, node)
}

func (s *server) joinSwarm(w http.ResponseWriter, r *http.Request) error {
	var req swarm.JoinRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	switch {
	case len(req.RemoteAddrs) == 0:
		return invalid("at least one RemoteAddr is required to join")
	case req.JoinToken == "":
		return invalid("JoinToken: a join token is required, `dhow swarm join-token worker` on a manager prints one")
	}
	avail, err := toAvailability(req.Availability)
	if err != nil {
		return err
	}
	err = s.Cluster.Join(r.Context(), cluster.JoinOptions{Listen: req.ListenAddr, Advertise: req.AdvertiseAddr, DataPath: req.DataPathAddr,
		Remotes: req.RemoteAddrs, Token: req.JoinToken, Availability: avail})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *server) leaveSwarm(w http.ResponseWriter, r *http.Request) error {
	if s.Cluster.Local().State == cluster.Alone {
		return say(cluster.ErrInSwarm, "This node is not part of a swarm")
	}
	if err := s.Cluster.Leave(r.Context(), flag(r, "force")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *server) getSwarm(w http.ResponseWriter, r *http.Request) error {
	sw, err := s.Cluster.Swarm(r.Context())
	if err != nil {
		return err
	}
	return ok(w, swarm.Swarm{ClusterInfo: toClusterInfo(&sw), JoinTokens: swarm.JoinTokens{Worker: sw.WorkerToken, Manager: sw.ManagerToken}})
}

// updateSwarm changes the settings, the join tokens, the CA, or several of them.
func (s *server) updateSwarm(w http.ResponseWriter, r *http.Request) error {
	var spec swarm.Spec
	if err := readJSON(w, r, &spec); err != nil {
		return err
	}
	version, err := strconv.ParseUint(r.URL.Query().Get("version"), 10, 64)
	if err != nil {
		return invalid("invalid swarm version '%s': %v", r.URL.Query().Get("version"), err)
	}
	if flag(r, "rotateManagerUnlockKey") || spec.EncryptionConfig.AutoLockManagers {
		return notYet("not offered yet: locking managers (autolock)")
	}
	now, err := s.Cluster.Swarm(r.Context())
	if err != nil {
		return err
	}
	set, err := toSettings(&spec, now.Settings)
	if err != nil {
		return err
	}
	rotate := cluster.RotateTokens{Worker: flag(r, "rotateWorkerToken"), Manager: flag(r, "rotateManagerToken")}
	if err := s.Cluster.UpdateSwarm(r.Context(), version, set, rotate); err != nil {
		return err
	}
	if ca := &spec.CAConfig; ca.ForceRotate > 0 || ca.SigningCACert != "" {
		if err := s.Cluster.RotateCA(r.Context(), cluster.RotateCA{Cert: []byte(ca.SigningCACert), Key: []byte(ca.SigningCAKey)}); err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// Defaults that the answer spells out, as Docker does.
const (
	defaultCertExpiry = 90 * 24 * time.Hour
	defaultSnapshot   = 4096
	defaultHistory    = 5
	defaultDataPath   = 4789
	defaultSubnetSize = 24
	defaultHeartbeat  = time.Second
)

// toSettings honours or refuses every field of a spec. What the zero value of
// Docker's client leaves out stays as it is.
func toSettings(spec *swarm.Spec, now cluster.Settings) (cluster.Settings, error) {
	set := now
	switch raft, ca := &spec.Raft, &spec.CAConfig; {
	case spec.Name != "" && spec.Name != "default":
		return set, invalid("Name: the swarm is called default, %q cannot be set", spec.Name)
	case spec.TaskDefaults.LogDriver != nil:
		return set, invalid("TaskDefaults.LogDriver is not supported: set logging in the stack file")
	case len(ca.ExternalCAs) > 0:
		return set, invalid("CAConfig.ExternalCAs is not supported: the cluster signs its certificates itself")
	case ca.NodeCertExpiry != 0 && ca.NodeCertExpiry < cluster.MinCertExpiry:
		return set, invalid("CAConfig.NodeCertExpiry: minimum certificate expiry time is %s, not %s: nodes need time to renew", cluster.MinCertExpiry, ca.NodeCertExpiry)
	case raft.KeepOldSnapshots != nil && *raft.KeepOldSnapshots != 0:
		return set, invalid("Raft.KeepOldSnapshots is not supported: `dhow swarm snapshot save` keeps one where you like")
	}
	if limit := spec.Orchestration.TaskHistoryRetentionLimit; limit != nil {
		switch {
		case *limit < 0:
			return set, invalid("Orchestration.TaskHistoryRetentionLimit: history without a limit is not supported")
		case *limit == 0:
			set.TaskHistory = -1
		case *limit == defaultHistory:
			set.TaskHistory = 0
		default:
			set.TaskHistory = int(*limit)
		}
	}
	set.CertExpiry = orDefault(spec.CAConfig.NodeCertExpiry, now.CertExpiry, defaultCertExpiry)
	set.SnapshotInterval = orDefault(spec.Raft.SnapshotInterval, now.SnapshotInterval, defaultSnapshot)
	if spec.Labels != nil {
		set.Labels = maps.Clone(spec.Labels)
		delete(set.Labels, vniLabel)
		var err error
		if set.VNIFirst, set.VNILast, err = vniRange(spec.Labels[vniLabel]); err != nil {
			return set, err
		}
	}
	return set, nil
}

// vniLabel is where the spec of a swarm, which has no field for it, has the
// range of the networks' VXLAN identifiers: "65536-16777215".
const vniLabel = "dhow.vni-range"

// vniRange reads a range; "" and the default one are kept as 0.
func vniRange(text string) (low, high int, err error) {
	if text == "" {
		return 0, 0, nil
	}
	a, b, _ := strings.Cut(text, "-")
	low, errA := strconv.Atoi(a)
	high, errB := strconv.Atoi(b)
	if errA != nil || errB != nil || low < 1 || high < low || high > cluster.MaxVNI {
		return 0, 0, invalid("%s: %q is not FIRST-LAST with numbers between 1 and %d", vniLabel, text, cluster.MaxVNI)
	}
	if low == cluster.MinVNI && high == cluster.MaxVNI {
		return 0, 0, nil
	}
	return low, high, nil
}

func vniText(set *cluster.Settings) string {
	low, high := cluster.MinVNI, cluster.MaxVNI
	if set.VNIFirst != 0 {
		low = set.VNIFirst
	}
	if set.VNILast != 0 {
		high = set.VNILast
	}
	return fmt.Sprintf("%d-%d", low, high)
}

// orDefault is what a setting becomes when got is asked for: 0 leaves it, and
// the default is kept as 0.
func orDefault[T comparable](got, now, def T) T {
	var zero T
	switch got {
	case zero:
		return now
	case def:
		return zero
	}
	return got
}

// pools are where networks get their addresses from; size is that of each IPv4
// network in them, 0: 24. Networks of IPv6 are a /64 each.
func pools(all []netip.Prefix, size uint32) (out []string, err error) {
	for i, p := range all {
		switch {
		case !p.IsValid():
			return nil, invalid("DefaultAddrPool: %s is not a subnet such as 10.20.0.0/16", p)
		case p.Addr().Is6() && p.Bits() > 64:
			return nil, invalid("DefaultAddrPool: %s: networks of IPv6 are a /64 each, and do not fit into it", p)
		case p.Addr().Is4() && size != 0 && (int(size) < p.Bits() || size > 29):
			return nil, invalid("SubnetSize: %s has no subnets of size %d: use %d to 29", p, size, p.Bits())
		}
		for _, o := range all[:i] {
			if o.Overlaps(p) {
				return nil, invalid("DefaultAddrPool: %s and %s overlap", o, p)
			}
		}
		out = append(out, p.Masked().String())
	}
	return out, nil
}

func toAvailability(a swarm.NodeAvailability) (stack.Availability, error) {
	switch strings.ToLower(string(a)) {
	case "", "active":
		return stack.Active, nil
	case "pause":
		return stack.Paused, nil
	case "drain":
		return stack.Drain, nil
	}
	return "", say(runtime.ErrInvalid, "invalid Availability: %q, only active, pause and drain are supported", a)
}

func toClusterInfo(sw *cluster.Swarm) swarm.ClusterInfo {
	set := &sw.Settings
	history := int64(max(set.TaskHistory, 0))
	if set.TaskHistory == 0 {
		history = defaultHistory
	}
	zero := uint64(0)
	out := swarm.ClusterInfo{
		ID: sw.ID, Meta: meta(sw.Version, sw.Created, sw.Updated), RootRotationInProgress: sw.Rotating,
		TLSInfo:         swarm.TLSInfo{TrustRoot: string(sw.Roots), CertIssuerSubject: sw.IssuerSubject, CertIssuerPublicKey: sw.IssuerKey},
		DefaultAddrPool: []netip.Prefix{}, SubnetSize: uint32(max(set.SubnetSize, 0)), DataPathPort: defaultDataPath, //nolint:gosec // small
	}
	if set.DataPathPort != 0 {
		out.DataPathPort = uint32(set.DataPathPort) //nolint:gosec // a port
	}
	if len(set.AddressPools) > 0 && set.SubnetSize == 0 {
		out.SubnetSize = defaultSubnetSize
	}
	for _, p := range set.AddressPools {
		if prefix, err := netip.ParsePrefix(p); err == nil {
			out.DefaultAddrPool = append(out.DefaultAddrPool, prefix)
		}
	}
	out.Spec = swarm.Spec{
		Annotations:   swarm.Annotations{Name: "default", Labels: mergeLabels(set.Labels, map[string]string{vniLabel: vniText(set)})},
		Orchestration: swarm.OrchestrationConfig{TaskHistoryRetentionLimit: &history},
		Raft:          swarm.RaftConfig{SnapshotInterval: set.SnapshotInterval, KeepOldSnapshots: &zero, LogEntriesForSlowFollowers: 500, ElectionTick: 10, HeartbeatTick: 1},
		Dispatcher:    swarm.DispatcherConfig{HeartbeatPeriod: defaultHeartbeat},
		CAConfig:      swarm.CAConfig{NodeCertExpiry: set.CertExpiry},
	}
	if set.SnapshotInterval == 0 {
		out.Spec.Raft.SnapshotInterval = defaultSnapshot
	}
	if set.CertExpiry == 0 {
		out.Spec.CAConfig.NodeCertExpiry = defaultCertExpiry
	}
	return out
}
