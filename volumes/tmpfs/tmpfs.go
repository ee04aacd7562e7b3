package tmpfs

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes"
)

// Maker implements volumes.Maker for tmpfs mounts.
type Maker struct{}

var _ volumes.Maker = Maker{}

// New returns a Maker.
func New() Maker { return Maker{} }

// Make returns the mount. As with Docker it has noexec, nosuid and nodev until
// an option says otherwise.
func (Maker) Make(_ context.Context, _ string, m stack.Mount) (volumes.Prepared, error) {
	opts, err := options(m)
	if err != nil {
		return volumes.Prepared{}, err
	}
	return volumes.Prepared{
		Mount:   m,
		Point:   runtime.MountPoint{Type: m.Type, Target: m.Target, ReadOnly: m.ReadOnly},
		Type:    "tmpfs",
		Source:  "tmpfs",
		Options: opts,
	}, nil
}

// opposite names the flag that an option undoes.
var opposite = map[string]string{
	"exec": "noexec", "noexec": "exec",
	"suid": "nosuid", "nosuid": "suid",
	"dev": "nodev", "nodev": "dev",
	"ro": "rw", "rw": "ro",
	"atime": "noatime", "noatime": "atime",
	"diratime": "nodiratime", "nodiratime": "diratime",
	"relatime": "norelatime", "norelatime": "relatime",
	"strictatime": "nostrictatime", "nostrictatime": "strictatime",
	"sync": "async", "async": "sync",
	"swap": "noswap", "noswap": "swap",
}

// plain are the options without an opposite.
var plain = map[string]bool{
	"private": true, "rprivate": true, "shared": true, "rshared": true, "slave": true, "rslave": true,
}

// keyed are the options with a value; true: a number.
var keyed = map[string]bool{
	"size": false, "mode": false, "uid": true, "gid": true, "nr_inodes": false, "nr_blocks": false, "mpol": false, "huge": false,
}

func options(m stack.Mount) ([]string, error) {
	opts := []string{"noexec", "nosuid", "nodev"}
	for _, word := range m.TmpfsOpts {
		for _, o := range strings.Split(word, ",") {
			if o == "" || o == "defaults" {
				continue
			}
			if err := check(o); err != nil {
				return nil, err
			}
			opts = replace(opts, o)
		}
	}
	if m.TmpfsSize < 0 {
		return nil, fmt.Errorf("tmpfs size %d: %w", m.TmpfsSize, runtime.ErrInvalid)
	}
	if m.TmpfsSize > 0 {
		opts = replace(opts, "size="+strconv.FormatInt(m.TmpfsSize, 10))
	}
	if m.TmpfsMode != 0 {
		opts = replace(opts, "mode="+strconv.FormatUint(uint64(m.TmpfsMode&0o7777), 8))
	} else if !hasKey(opts, "mode") {
		opts = append(opts, "mode=1777")
	}
	if m.ReadOnly {
		opts = replace(opts, "ro")
	}
	return opts, nil
}

func check(o string) error {
	key, val, has := strings.Cut(o, "=")
	if !has && (opposite[o] != "" || plain[o]) {
		return nil
	}
	number, known := keyed[key]
	if !has || !known || val == "" {
		return fmt.Errorf("tmpfs option %q is not known: %w", o, runtime.ErrInvalid)
	}
	if number {
		if _, err := strconv.ParseUint(val, 10, 32); err != nil {
			return fmt.Errorf("tmpfs option %q: not a number: %w", o, runtime.ErrInvalid)
		}
	}
	if key == "mode" {
		if _, err := strconv.ParseUint(val, 8, 12); err != nil {
			return fmt.Errorf("tmpfs option %q: not an octal mode: %w", o, runtime.ErrInvalid)
		}
	}
	return nil
}

// replace appends o and drops what it overrides.
func replace(opts []string, o string) []string {
	key, _, has := strings.Cut(o, "=")
	kept := opts[:0]
	for _, old := range opts {
		oldKey, _, _ := strings.Cut(old, "=")
		if old == o || old == opposite[o] || has && oldKey == key {
			continue
		}
		kept = append(kept, old)
	}
	return append(kept, o)
}

func hasKey(opts []string, key string) bool {
	for _, o := range opts {
		if strings.HasPrefix(o, key+"=") {
			return true
		}
	}
	return false
}
