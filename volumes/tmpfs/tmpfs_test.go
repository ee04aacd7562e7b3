package tmpfs_test

import (
	"context"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes/tmpfs"
)

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		m    stack.Mount
		want string // "" is an error
	}{
		{stack.Mount{}, "noexec nosuid nodev mode=1777"},
		{stack.Mount{TmpfsSize: 1 << 20, TmpfsMode: 0o700, ReadOnly: true}, "noexec nosuid nodev size=1048576 mode=700 ro"},
		{stack.Mount{TmpfsOpts: []string{"exec,uid=5", "size=10%", "mode=755"}}, "nosuid nodev exec uid=5 size=10% mode=755"},
		{stack.Mount{TmpfsOpts: []string{"size=1m"}, TmpfsSize: 5}, "noexec nosuid nodev size=5 mode=1777"},
		{stack.Mount{TmpfsOpts: []string{"uid=root"}}, ""},
		{stack.Mount{TmpfsOpts: []string{"mode=999"}}, ""},
		{stack.Mount{TmpfsOpts: []string{"bind"}}, ""},
		{stack.Mount{TmpfsOpts: []string{"size"}}, ""},
		{stack.Mount{TmpfsSize: -1}, ""},
	} {
		p, err := tmpfs.New().Make(context.Background(), "u", c.m)
		if got := strings.Join(p.Options, " "); got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%+v: %q, %v; want %q", c.m, got, err, c.want)
		}
	}
}
