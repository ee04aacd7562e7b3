package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/volumes"
	"github.com/dhow-project/dhow/volumes/internal/fsx"
)

const (
	dataName  = "_data"
	imageName = "disk.img"
)

// Driver implements volumes.Driver.
type Driver struct {
	// Resolve turns a host name into an address; nil asks the system's resolver.
	Resolve func(ctx context.Context, host string) (string, error)
}

// New returns the driver.
func New() *Driver { return &Driver{} }

var _ volumes.Driver = (*Driver)(nil)

// Check finds what Create or Mount would refuse, and changes nothing. Servers are not asked.
func (d *Driver) Check(opts map[string]string) error {
	o, err := parse(opts)
	if err != nil || o == nil {
		return err
	}
	switch {
	case o.Size > 0:
		_, err := maker(o.Type)
		return err
	case o.bind():
		return checkDirectory(o.Device)
	case o.Type == "tmpfs" || o.network() || !filepath.IsAbs(o.Device):
		return nil
	}
	return checkDevice(o.Device)
}

// Create checks the options and makes the image of a volume with a size limit.
func (d *Driver) Create(ctx context.Context, v volumes.Volume, dir string) error {
	o, err := parse(v.Options)
	if err != nil || o == nil || o.Size == 0 {
		return err
	}
	return makeImage(ctx, filepath.Join(dir, imageName), o.Type, o.Size)
}

// Mount mounts the volume at dir/_data when it has options.
func (d *Driver) Mount(ctx context.Context, v volumes.Volume, dir string) (string, error) {
	target := filepath.Join(dir, dataName)
	if len(v.Options) == 0 {
		return target, nil
	}
	o, err := parse(v.Options)
	if err != nil {
		return "", err
	}
	mounted, err := fsx.Mounted(target)
	if err != nil {
		return "", fmt.Errorf("mount: %w", err)
	}
	if mounted {
		return target, nil
	}
	if err := d.mount(ctx, o, dir, target); err != nil {
		return "", fmt.Errorf("mount: %w", err)
	}
	return target, nil
}

func (d *Driver) mount(ctx context.Context, o *options, dir, target string) error {
	source := o.Device
	if o.Size > 0 {
		source = filepath.Join(dir, imageName)
	}
	switch {
	case o.bind():
		return mountBind(o, source, target)
	case o.Type == "tmpfs":
		return call("tmpfs", target, o.Type, o.Flags, o.Data)
	case o.network():
		data, err := d.networkData(ctx, o)
		if err != nil {
			return err
		}
		return call(source, target, o.Type, o.Flags, data)
	}
	if !filepath.IsAbs(source) { // a name that the file system knows: "tank/data", "server:vol"
		return call(source, target, o.Type, o.Flags, o.Data)
	}
	fi, err := stat(source)
	if err != nil {
		return err
	}
	if fi.Mode().IsRegular() {
		return mountLoop(source, target, o)
	}
	return call(source, target, o.Type, o.Flags, o.Data)
}

func stat(device string) (fs.FileInfo, error) {
	fi, err := os.Stat(device)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("device %s does not exist: %w", device, runtime.ErrInvalid)
	}
	return fi, err
}

func checkDirectory(device string) error {
	fi, err := stat(device)
	if err == nil && !fi.IsDir() {
		err = fmt.Errorf("device %s is not a directory: %w", device, runtime.ErrInvalid)
	}
	return err
}

func checkDevice(device string) error {
	fi, err := stat(device)
	if err == nil && fi.IsDir() {
		err = fmt.Errorf("device %s is a directory; to use one: type=none,o=bind: %w", device, runtime.ErrInvalid)
	}
	return err
}

func mountBind(o *options, source, target string) error {
	if err := checkDirectory(source); err != nil {
		return err
	}
	if err := call(source, target, "", o.Flags&(unix.MS_BIND|unix.MS_REC), nil); err != nil {
		return err
	}
	rest := o.Flags &^ (unix.MS_BIND | unix.MS_REC)
	if rest == 0 {
		return nil
	}
	// A bind mount takes its flags in a second step only.
	if err := call("", target, "", rest|unix.MS_BIND|unix.MS_REMOUNT, nil); err != nil {
		return errors.Join(err, fsx.Unmount(target, true))
	}
	return nil
}

func call(source, target, fstype string, flags uintptr, data []string) error {
	err := unix.Mount(source, target, fstype, flags, strings.Join(data, ","))
	if err == unix.ENODEV && fstype != "" {
		return fmt.Errorf("this kernel does not know file system %q: %w", fstype, errors.Join(err, runtime.ErrInvalid))
	}
	if err != nil {
		return fmt.Errorf("%s %s on %s: %w", fstype, source, target, err)
	}
	return nil
}

// networkData resolves the server: the kernel wants addresses.
func (d *Driver) networkData(ctx context.Context, o *options) ([]string, error) {
	host := o.Addr
	if host == "" {
		host = serverOf(o.Device)
	}
	if host == "" {
		return nil, invalid("device %q names no server, and o=addr=... is missing", o.Device)
	}
	resolve := d.Resolve
	if resolve == nil {
		resolve = lookup
	}
	addr, err := resolve(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", host, err)
	}
	return append([]string{"addr=" + addr}, o.Data...), nil
}

// serverOf reads "host:/path", "[v6]:/path" and "//host/share".
func serverOf(device string) string {
	if rest, ok := strings.CutPrefix(device, "//"); ok {
		host, _, _ := strings.Cut(rest, "/")
		return host
	}
	i := strings.Index(device, ":/")
	if i <= 0 {
		return ""
	}
	return strings.Trim(device[:i], "[]")
}

func lookup(ctx context.Context, host string) (string, error) {
	if net.ParseIP(host) != nil {
		return host, nil
	}
	ips, err := net.DefaultResolver.LookupIP(ctx, "ip", host)
	if err != nil {
		return "", err
	}
	for _, ip := range ips {
		if ip.To4() != nil {
			return ip.String(), nil
		}
	}
	return ips[0].String(), nil
}

// Unmount unmounts a volume that has options. What is stored on a device must
// really be gone afterwards; a network that hangs is cut loose.
func (d *Driver) Unmount(_ context.Context, v volumes.Volume, dir string) error {
	if len(v.Options) == 0 {
		return nil
	}
	o, err := parse(v.Options)
	lazy := err == nil && (o.network() || o.bind())
	if err := fsx.Unmount(filepath.Join(dir, dataName), lazy); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	return nil
}

// Remove has nothing to do: all that the driver made lies in dir.
func (d *Driver) Remove(context.Context, volumes.Volume, string) error { return nil }
