package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/runtime"
)

// Changes lists what the container has added, changed and deleted in its
// image's files, sorted by path. A folder is changed when something below it
// is. A container that never ran has changed nothing.
func (s *Store) Changes(ctx context.Context, containerID string) ([]runtime.PathChange, error) {
	list, err := s.changes(s.context(ctx), containerID)
	if err != nil {
		return nil, fmt.Errorf("changes of %s: %w", containerID, err)
	}
	return list, nil
}

func (s *Store) changes(ctx context.Context, containerID string) ([]runtime.PathChange, error) {
	dir, err := s.layerDir(containerID)
	if err != nil {
		return nil, err
	}
	s.gc.RLock()
	image, chain, err := readPin(filepath.Join(dir, pinLink))
	var lowers []string
	if err == nil {
		lowers, err = s.lowers(ctx, image, chain)
	}
	s.gc.RUnlock()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d := differ{ctx: ctx}
	if _, err := d.folder("/", filepath.Join(dir, upperDir), lowers); err != nil {
		return nil, err
	}
	sort.Slice(d.found, func(i, j int) bool { return d.found[i].Path < d.found[j].Path })
	return d.found, nil
}

// differ compares a writable layer with the layers below it by overlayfs' own
// rules: a whiteout hides a name, an opaque folder hides all names below.
type differ struct {
	ctx   context.Context //nolint:containedctx // one walk, within the call
	found []runtime.PathChange
}

func (d *differ) add(p string, kind runtime.ChangeKind) {
	d.found = append(d.found, runtime.PathChange{Path: p, Kind: kind})
}

// folder compares one folder; changed tells whether anything in it did.
// lowers are the folders of the same path below, the topmost first.
func (d *differ) folder(at, upper string, lowers []string) (changed bool, err error) {
	if err := d.ctx.Err(); err != nil {
		return false, err
	}
	entries, err := os.ReadDir(upper)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // removed by the container meanwhile
	}
	if err != nil {
		return false, err
	}
	names := map[string]bool{}
	for _, e := range entries {
		names[e.Name()] = true
		one, err := d.entry(path.Join(at, e.Name()), filepath.Join(upper, e.Name()), lowers)
		if err != nil {
			return false, err
		}
		changed = changed || one
	}
	if !opaque(upper) {
		return changed, nil
	}
	for _, name := range namesBelow(lowers) {
		if !names[name] {
			d.add(path.Join(at, name), runtime.PathDeleted)
			changed = true
		}
	}
	return changed, nil
}

func (d *differ) entry(at, upper string, lowers []string) (changed bool, err error) {
	st, err := os.Lstat(upper)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	below, folders := lookBelow(path.Base(at), lowers)
	switch {
	case whiteout(st):
		if below != nil {
			d.add(at, runtime.PathDeleted)
		}
		return below != nil, nil
	case !st.IsDir():
		if below == nil && placeholder(at, st) {
			return false, nil
		}
		d.add(at, kindOf(below))
		return true, nil
	}
	mark := len(d.found)
	inside, err := d.folder(at, upper, folders)
	if err != nil || below == nil && !inside && placeholder(at, st) {
		return false, err
	}
	if below == nil || inside || !below.IsDir() || !alike(below, st) {
		d.found = append(d.found[:mark], append([]runtime.PathChange{{Path: at, Kind: kindOf(below)}}, d.found[mark:]...)...)
		return true, nil
	}
	return false, nil
}

func kindOf(below fs.FileInfo) runtime.ChangeKind {
	if below == nil {
		return runtime.PathAdded
	}
	return runtime.PathModified
}

// lookBelow finds a name in the folders below: what is seen of it (nil:
// nothing), and when that is a folder, all of them that are seen merged.
func lookBelow(name string, lowers []string) (seen fs.FileInfo, folders []string) {
	for _, l := range lowers {
		p := filepath.Join(l, name)
		st, err := os.Lstat(p)
		if err != nil {
			continue
		}
		if whiteout(st) || !st.IsDir() {
			if seen == nil && !whiteout(st) {
				seen = st
			}
			return seen, folders
		}
		if seen == nil {
			seen = st
		}
		if folders = append(folders, p); opaque(p) {
			return seen, folders
		}
	}
	return seen, folders
}

// namesBelow are the names that are seen in the folders merged.
func namesBelow(lowers []string) []string {
	all := map[string]bool{}
	for _, l := range lowers {
		entries, err := os.ReadDir(l)
		if err != nil {
			continue
		}
		for _, e := range entries {
			all[e.Name()] = true
		}
	}
	var out []string
	for name := range all {
		if seen, _ := lookBelow(name, lowers); seen != nil {
			out = append(out, name)
		}
	}
	sort.Strings(out)
	return out
}

// whiteout is overlayfs' mark of a deleted name: a character device 0/0.
func whiteout(st fs.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && st.Mode()&fs.ModeCharDevice != 0 && sys.Rdev == 0
}

func opaque(dir string) bool {
	var b [1]byte
	for _, name := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		if n, err := unix.Lgetxattr(dir, name, b[:]); err == nil && n == 1 && b[0] == 'y' {
			return true
		}
	}
	return false
}

// alike compares what a copy-up alone does not change.
func alike(a, b fs.FileInfo) bool {
	x, ok1 := a.Sys().(*syscall.Stat_t)
	y, ok2 := b.Sys().(*syscall.Stat_t)
	return ok1 && ok2 && a.Mode() == b.Mode() && x.Uid == y.Uid && x.Gid == y.Gid
}

// placeholder tells an empty file or folder that the OCI runtime made to mount
// something there: no change by the container. Docker hides them in a layer.
func placeholder(at string, st fs.FileInfo) bool {
	if st.Mode().IsRegular() && st.Size() > 0 {
		return false
	}
	switch at {
	case "/dev", "/proc", "/sys", "/etc", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab", "/sbin/docker-init":
		return true
	}
	return strings.HasPrefix(at, "/dev/")
}
