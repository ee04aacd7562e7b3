package oci

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/runtime"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// lookupUser resolves "name", "uid", "user:group" and the additional groups in
// the root file system's own databases; it also returns the home directory.
func lookupUser(rootfs, who string, groupAdd []string) (specs.User, string, error) {
	passwd, group := openInRoot(rootfs, "etc/passwd"), openInRoot(rootfs, "etc/group")
	defer passwd.Close()
	defer group.Close()
	u, err := user.GetExecUser(who, &user.ExecUser{Home: "/"}, passwd, group)
	if err != nil {
		return specs.User{}, "", fmt.Errorf("user %q: %w: %w", who, err, runtime.ErrInvalid)
	}
	// The primary group is listed as well: a process that drops it must not
	// come into files that are closed to the group (CVE-2022-36109).
	out := specs.User{UID: uint32(u.Uid), GID: uint32(u.Gid), AdditionalGids: []uint32{uint32(u.Gid)}}
	for _, g := range u.Sgids {
		if g == u.Gid {
			continue
		}
		out.AdditionalGids = append(out.AdditionalGids, uint32(g))
	}
	if len(groupAdd) > 0 {
		more, err := additionalGroups(rootfs, groupAdd)
		if err != nil {
			return specs.User{}, "", err
		}
		out.AdditionalGids = append(out.AdditionalGids, more...)
	}
	return out, u.Home, nil
}

func additionalGroups(rootfs string, names []string) ([]uint32, error) {
	group := openInRoot(rootfs, "etc/group")
	defer group.Close()
	gids, err := user.GetAdditionalGroups(names, group)
	if err != nil {
		return nil, fmt.Errorf("groups %s: %w: %w", strings.Join(names, ", "), err, runtime.ErrInvalid)
	}
	out := make([]uint32, len(gids))
	for i, g := range gids {
		out[i] = uint32(g)
	}
	slices.Sort(out) // they come in the order of a map
	return out, nil
}

// openInRoot opens a file of the container; links cannot lead out of it. A
// file that is not there is empty: images without databases know numbers only.
func openInRoot(rootfs, name string) io.ReadCloser {
	empty := io.NopCloser(strings.NewReader(""))
	root, err := unix.Open(rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return empty
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return empty
	}
	return os.NewFile(uintptr(fd), name)
}
