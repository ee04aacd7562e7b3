package local

import (
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/runtime"
)

// options is the parsed form of a volume's options.
type options struct {
	Type   string
	Device string
	Flags  uintptr  // mount(2)
	Data   []string // what the file system gets
	Addr   string   // of a network file system: host to resolve; "" is none
	Size   int64    // of an image that the driver makes, bytes
}

// imageTypes are the file systems that an image may have; mkfs.TYPE makes them.
var imageTypes = []string{"ext2", "ext3", "ext4", "xfs", "btrfs"}

var mountFlags = map[string]struct {
	set, clear uintptr
}{
	"defaults":      {0, 0},
	"ro":            {unix.MS_RDONLY, 0},
	"rw":            {0, unix.MS_RDONLY},
	"nosuid":        {unix.MS_NOSUID, 0},
	"suid":          {0, unix.MS_NOSUID},
	"nodev":         {unix.MS_NODEV, 0},
	"dev":           {0, unix.MS_NODEV},
	"noexec":        {unix.MS_NOEXEC, 0},
	"exec":          {0, unix.MS_NOEXEC},
	"sync":          {unix.MS_SYNCHRONOUS, 0},
	"async":         {0, unix.MS_SYNCHRONOUS},
	"dirsync":       {unix.MS_DIRSYNC, 0},
	"noatime":       {unix.MS_NOATIME, 0},
	"atime":         {0, unix.MS_NOATIME},
	"nodiratime":    {unix.MS_NODIRATIME, 0},
	"diratime":      {0, unix.MS_NODIRATIME},
	"relatime":      {unix.MS_RELATIME, 0},
	"norelatime":    {0, unix.MS_RELATIME},
	"strictatime":   {unix.MS_STRICTATIME, 0},
	"nostrictatime": {0, unix.MS_STRICTATIME},
	"bind":          {unix.MS_BIND, 0},
	"rbind":         {unix.MS_BIND | unix.MS_REC, 0},
}

// parse checks the options of a volume. No options are nil.
func parse(opts map[string]string) (*options, error) {
	if len(opts) == 0 {
		return nil, nil
	}
	for _, k := range slices.Sorted(maps.Keys(opts)) {
		if k != "type" && k != "o" && k != "device" {
			return nil, invalid("unknown option %q (type, o and device are known)", k)
		}
	}
	o := &options{Type: opts["type"], Device: opts["device"]}
	for _, word := range strings.Split(opts["o"], ",") {
		if err := o.word(strings.TrimSpace(word)); err != nil {
			return nil, err
		}
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	return o, nil
}

func (o *options) word(w string) error {
	if w == "" || strings.HasPrefix(w, "x-") || w == "_netdev" || w == "nofail" || w == "noauto" {
		return nil // notes to other programs
	}
	if f, ok := mountFlags[w]; ok {
		o.Flags = o.Flags&^f.clear | f.set
		return nil
	}
	if strings.ContainsRune(w, 0) {
		return invalid("option %q", w)
	}
	key, val, _ := strings.Cut(w, "=")
	switch {
	case key == "addr" && o.network():
		o.Addr = val
	case key == "size" && o.Type != "tmpfs":
		n, err := ParseSize(val)
		if err != nil {
			return err
		}
		o.Size = n
	default:
		o.Data = append(o.Data, w)
	}
	return nil
}

func (o *options) network() bool {
	return o.Type == "nfs" || o.Type == "nfs4" || o.Type == "cifs" || o.Type == "smb3"
}

func (o *options) bind() bool { return o.Flags&unix.MS_BIND != 0 }

func (o *options) check() error {
	switch {
	case o.Size > 0 && o.Device != "":
		return invalid("size is for an image that dhow makes, and device %q is given", o.Device)
	case o.Size > 0 && !slices.Contains(imageTypes, o.Type):
		return invalid("a size limit needs a file system: type=ext4,o=size=... (or %s)", strings.Join(imageTypes, ", "))
	case o.Size > 0:
		return nil
	case o.Type == "":
		return invalid("option type is missing")
	case o.Type == "tmpfs":
		return nil
	case o.Device == "":
		return invalid("type %s needs a device", o.Type)
	case o.bind() && !path.IsAbs(o.Device):
		return invalid("device %q is not an absolute path", o.Device)
	case o.bind() && len(o.Data) > 0:
		return invalid("a bind mount has no option %q", o.Data[0])
	case o.Type == "none" && !o.bind():
		return invalid("type none needs o=bind")
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("volume options: %s: %w", fmt.Sprintf(format, args...), runtime.ErrInvalid)
}

// minSize is what the smallest journaled file system needs.
const minSize = 4 << 20

// ParseSize reads "512m", "10G", "10GiB" or plain bytes; units are powers of 1024.
func ParseSize(s string) (int64, error) {
	num := strings.ToLower(strings.TrimSpace(s))
	num = strings.TrimSuffix(strings.TrimSuffix(num, "b"), "i")
	shift := 0
	if num != "" {
		if i := strings.IndexByte("kmgtp", num[len(num)-1]); i >= 0 {
			shift, num = 10*(i+1), num[:len(num)-1]
		}
	}
	n, err := strconv.ParseInt(num, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64>>shift {
		return 0, invalid("size %q", s)
	}
	if n <<= shift; n < minSize {
		return 0, invalid("size %q is below 4 MiB", s)
	}
	return n, nil
}
