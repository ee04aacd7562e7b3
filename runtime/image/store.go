package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/log"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/dhow-project/dhow/runtime"
)

const (
	namespace       = "dhow"      // one per database is enough: stores do not share databases
	snapshotterName = "overlayfs" // as in containerd's labels
	lockTimeout     = 2 * time.Second
)

// Config of a Store. The zero value of a field is its default.
type Config struct {
	// DataDir belongs to this store alone. Required.
	DataDir string
	// Log receives state changes and warnings; nil is silent.
	Log *slog.Logger
	// Mirrors maps a registry host ("docker.io", "registry.example:5000") to
	// base URLs that are asked first, in order ("https://mirror.example").
	Mirrors map[string][]string
	// InsecureRegistries are hosts, or CIDR ranges of addresses, whose
	// certificate is not checked and that may speak plain http. The loopback
	// addresses always count.
	InsecureRegistries []string
	// CertsDirs hold a folder per registry host with *.crt (private
	// authorities) and *.cert with *.key (client certificates). Default:
	// /etc/dhow/certs.d and /etc/docker/certs.d.
	CertsDirs []string
	// DockerConfig is the config.json with registry credentials. Default:
	// $DOCKER_CONFIG/config.json or ~/.docker/config.json. It is read anew at
	// each pull, so that a login needs no restart.
	DockerConfig string
	// InUse names the containers by the image that they use; nil: none do.
	InUse func() (map[string][]string, error)
	// Peers are other nodes that may have an image; nil: there are none.
	Peers Peers
	// Publish receives pull, load, tag, untag and delete events; nil: nobody.
	Publish func(runtime.Event)
}

// Store is the images of one node. Its methods may be called concurrently.
type Store struct {
	cfg    Config
	log    *slog.Logger
	rootfs string // writable layers
	pins   string // image mounts

	bolt    *bolt.DB
	backend snapshots.Snapshotter
	db      *metadata.DB
	content content.Store
	snaps   snapshots.Snapshotter
	images  images.Store
	leases  leases.Manager
	applier diff.Applier

	locks    *keyedLocks                                                       // by name, blob and chain
	logger   *log.Entry                                                        // containerd's words, into log
	cache    cache                                                             // of what never changes
	recorded recordCache                                                       // names
	gc       sync.RWMutex                                                      // held for reading while a container takes a chain, for writing while views are dropped
	served   *served                                                           // to other nodes
	near     *neighbours                                                       // how they answered lately
	work     sync.WaitGroup                                                    // background collection
	options  []string                                                          // of every overlay mount
	dial     func(ctx context.Context, network, addr string) (net.Conn, error) // to registries
	stall    time.Duration                                                     // silence after which a registry\'s connection is given up
}

// Open opens or creates the store in c.DataDir. What an earlier process left
// half-done is cleaned up in the background. Two stores cannot share a DataDir.
func Open(c Config) (*Store, error) {
	s, err := open(c)
	if err != nil {
		return nil, fmt.Errorf("image store %s: %w", c.DataDir, err)
	}
	return s, nil
}

func open(c Config) (*Store, error) {
	if c.DataDir == "" || !filepath.IsAbs(c.DataDir) {
		return nil, fmt.Errorf("data dir must be an absolute path: %w", runtime.ErrInvalid)
	}
	if strings.ContainsAny(c.DataDir, ":,\\") { // they separate overlay's options
		return nil, fmt.Errorf("data dir must not contain a colon, comma or backslash: %w", runtime.ErrInvalid)
	}
	s := &Store{cfg: c, log: c.Log, dial: dialRegistry, stall: stallTime, locks: newKeyedLocks(), cache: newCache(), served: newServed(), near: newNeighbours(),
		rootfs: filepath.Join(c.DataDir, "rootfs"), pins: filepath.Join(c.DataDir, "pins")}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.logger = bridge(s.log)
	for _, dir := range []string{c.DataDir, s.rootfs, s.pins} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if err := s.openDatabases(); err != nil {
		return nil, err
	}
	s.options = overlayOptions(c.DataDir)
	if err := s.sweep(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// openDatabases opens both with fsync on: what a pull or load has reported is
// on disk, and power loss cannot corrupt them. Containers do not write here.
func (s *Store) openDatabases() error {
	dir := s.cfg.DataDir
	db, err := bolt.Open(filepath.Join(dir, "meta.db"), 0o600, &bolt.Options{Timeout: lockTimeout, NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("another daemon uses this directory: %w", runtime.ErrConflict)
	}
	if err != nil {
		return fmt.Errorf("open meta.db: %w", err)
	}
	if err := s.openStores(db); err != nil {
		return errors.Join(err, db.Close())
	}
	return nil
}

func (s *Store) openStores(db *bolt.DB) error {
	dir := s.cfg.DataDir
	blobs, err := local.NewStore(filepath.Join(dir, "content"))
	if err != nil {
		return fmt.Errorf("open content: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "snapshots"), 0o700); err != nil {
		return err
	}
	ms, err := storage.NewMetaStore(filepath.Join(dir, "snapshots", "metadata.db"), func(o *bolt.Options) error {
		o.Timeout = lockTimeout
		return nil
	})
	if err != nil {
		return fmt.Errorf("open snapshots: %w", err)
	}
	s.backend, err = overlay.NewSnapshotter(filepath.Join(dir, "snapshots"), overlay.WithMetaStore(ms), overlay.AsynchronousRemove)
	if err != nil {
		return fmt.Errorf("open snapshots: %w", err)
	}
	s.bolt = db
	s.db = metadata.NewDB(db, blobs, map[string]snapshots.Snapshotter{snapshotterName: s.backend})
	if err := s.db.Init(s.context(context.Background())); err != nil {
		return errors.Join(fmt.Errorf("open meta.db: %w", err), s.backend.Close())
	}
	s.content = s.db.ContentStore()
	s.snaps = s.db.Snapshotter(snapshotterName)
	s.images = metadata.NewImageStore(s.db)
	s.leases = metadata.NewLeaseManager(s.db)
	s.applier = directApplier{apply.NewFileSystemApplier(s.content)}
	return nil
}

// Close waits for background work and closes the databases. Mounts stay.
func (s *Store) Close() error {
	s.served.close(s)
	s.work.Wait()
	return errors.Join(s.backend.Close(), s.bolt.Close())
}

// context prepares ctx for containerd's libraries.
func (s *Store) context(ctx context.Context) context.Context {
	return log.WithLogger(namespaces.WithNamespace(ctx, namespace), s.logger)
}

func (s *Store) publish(action, id, name string) {
	if s.cfg.Publish == nil {
		return
	}
	s.cfg.Publish(runtime.Event{Type: "image", Action: action, ID: id,
		Attrs: map[string]string{"name": name}, Time: time.Now()})
}
