package volumes

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"strings"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// DefaultDriver is the driver of a volume that names none.
const DefaultDriver = "local"

// AnonymousLabel marks volumes made for a mount without a name, as Docker does.
const AnonymousLabel = "com.docker.volume.anonymous"

// Volume is one volume of this node.
type Volume struct {
	Name       string            `json:"name"`
	Driver     string            `json:"driver"`
	Mountpoint string            `json:"-"` // host path of the content; empty content for mounted drivers without users
	Options    map[string]string `json:"options,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Created    time.Time         `json:"created"`
	Anonymous  bool              `json:"anonymous,omitempty"`
}

// Spec asks for a volume.
type Spec struct {
	Name    string // "": an anonymous volume with a random name
	Driver  string // "": DefaultDriver
	Options map[string]string
	Labels  map[string]string
}

// Driver stores the content of volumes. Every call is idempotent, and calls
// for one volume never overlap. dir is the volume's own directory, in which
// the driver may keep what it needs beside "_data".
type Driver interface {
	// Create checks the options (runtime.ErrInvalid) and makes what has to be
	// there before the first mount. dir is not the final place yet.
	Create(ctx context.Context, v Volume, dir string) error
	// Mount makes the content available and returns its host path.
	Mount(ctx context.Context, v Volume, dir string) (string, error)
	// Unmount undoes Mount.
	Unmount(ctx context.Context, v Volume, dir string) error
	// Remove lets go of what lies outside of dir; the manager removes dir.
	Remove(ctx context.Context, v Volume, dir string) error
}

// Maker turns one mount of its type into a mount of the OCI runtime.
type Maker interface {
	Make(ctx context.Context, user string, m stack.Mount) (Prepared, error)
}

// Images is what image mounts need of the image store.
type Images interface {
	Image(ctx context.Context, ref, platform string) (*runtime.Image, error)
	MountImage(ctx context.Context, key, imageID, target string) error
	UnmountImage(ctx context.Context, key, target string) error
}

// Prepared is one mount, ready for the OCI runtime.
type Prepared struct {
	Mount   stack.Mount        // as asked for; Source is the volume's name, also of an anonymous one
	Point   runtime.MountPoint // for inspect
	Type    string             // OCI mount type: "bind", "tmpfs"
	Source  string             // host path, or "tmpfs"
	Options []string           // OCI mount options
}

// Config of a Manager.
type Config struct {
	DataDir string // volumes live in DataDir/volumes
	RunDir  string // subpath and image mounts live in RunDir/volumes
	Log     *slog.Logger

	Drivers map[string]Driver         // by name; DefaultDriver must be there
	Makers  map[stack.MountType]Maker // bind and tmpfs
	Images  Images                    // nil: image mounts are refused
	Publish func(runtime.Event)       // nil: nobody listens

	// UserName is the name of a container, for errors; nil: its ID has to do.
	UserName func(id string) string
}

var nameRE = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$`)

// CheckName returns an error when name cannot be the name of a volume.
func CheckName(name string) error {
	if nameRE.MatchString(name) {
		return nil
	}
	return fmt.Errorf("volume name %q: want letters, digits, '_', '.', '-', the first a letter or digit, at most 255: %w", name, runtime.ErrInvalid)
}

// checkUser keeps users usable as file names.
func checkUser(user string) error {
	if nameRE.MatchString(user) && len(user) <= 200 {
		return nil
	}
	return fmt.Errorf("volume user %q: %w", user, runtime.ErrInvalid)
}

// clone returns a copy that shares nothing.
func (v Volume) clone() Volume {
	v.Options = maps.Clone(v.Options)
	v.Labels = maps.Clone(v.Labels)
	return v
}

// conflict says how a request differs from the volume that exists; "" when it
// does not. A request without options or labels does not speak about them
// (`docker volume create NAME` on an existing volume succeeds), and the labels
// that Compose and dhow put on by themselves are not part of the definition.
func (v Volume) conflict(s Spec) string {
	if s.Driver != "" && s.Driver != v.Driver {
		return fmt.Sprintf("it has driver %q, not %q", v.Driver, s.Driver)
	}
	if len(s.Options) > 0 && !maps.Equal(s.Options, v.Options) {
		return fmt.Sprintf("it has options %v, not %v", v.Options, s.Options)
	}
	if want := ownLabels(s.Labels); len(want) > 0 && !maps.Equal(want, ownLabels(v.Labels)) {
		return fmt.Sprintf("it has labels %v, not %v", ownLabels(v.Labels), want)
	}
	return ""
}

// ownLabels are the labels that a person wrote.
func ownLabels(labels map[string]string) map[string]string {
	own := make(map[string]string, len(labels))
	for k, val := range labels {
		if !strings.HasPrefix(k, "com.docker.") && !strings.HasPrefix(k, "dhow.") {
			own[k] = val
		}
	}
	return own
}
