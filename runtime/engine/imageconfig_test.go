package engine_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/image/imagetest"
	"github.com/dhow-project/dhow/stack"
)

// TestImageConfigIsHonoured: what an image says of its containers holds, until the container says otherwise.
func TestImageConfigIsHonoured(t *testing.T) {
	n := newNode(t)
	img := imagetest.Busybox(t, "app:1")
	img.Config.User, img.Config.WorkingDir, img.Config.StopSignal = "app", "/made/by/image", "SIGUSR1"
	img.Config.Entrypoint, img.Config.Cmd = []string{"sh", "-c"}, []string{"echo from the image"}
	img.Config.Env = append(img.Config.Env, "KEPT=1", "LITERAL=$KEPT", "EMPTY=")
	img.Config.Volumes = map[string]struct{}{"/data": {}}
	img.Config.ExposedPorts = map[string]struct{}{"80/tcp": {}}
	img.Config.Labels = map[string]string{"of": "image", "both": "image"}
	img.Config.Healthcheck = &imagetest.Healthcheck{Test: []string{"CMD", "true"}, Interval: 50 * time.Millisecond}
	if _, err := n.images.Load(n.ctx(), bytes.NewReader(imagetest.Archive(t, img)), nil); err != nil {
		t.Fatal(err)
	}
	const app = "app:1"
	for _, tc := range []struct {
		name string
		spec stack.ContainerSpec
		want string
	}{
		{"entrypoint and command", stack.ContainerSpec{}, "from the image\n"},
		{"own command", stack.ContainerSpec{Command: []string{"echo own; id -un; pwd"}}, "own\napp\n/made/by/image\n"},
		{"own entrypoint drops the command", stack.ContainerSpec{Entrypoint: []string{"echo"}}, "\n"},
		{"both", stack.ContainerSpec{Entrypoint: []string{"echo"}, Command: []string{"a", "b"}}, "a b\n"},
		{"no entrypoint", stack.ContainerSpec{Entrypoint: []string{}, Command: []string{"echo", "plain"}}, "plain\n"},
		{"environment is not expanded twice", stack.ContainerSpec{Env: []string{"KEPT=2", "EMPTY"}, Command: []string{`echo "$KEPT $LITERAL ${EMPTY-unset}"`}}, "2 $KEPT unset\n"},
		{"own user and group", stack.ContainerSpec{User: "root:extra", Command: []string{"id -u; id -gn"}}, "0\nextra\n"},
		{"volume", stack.ContainerSpec{User: "root", Command: []string{"grep -c ' /data ' /proc/self/mounts"}}, "1\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n.TB = t
			tc.spec.Image = app
			if got, code := n.run(tc.spec); got != tc.want {
				t.Errorf("got %q (exit %d), want %q", got, code, tc.want)
			}
		})
	}
	n.TB = t
	events := n.bus.Subscribe(n.ctx(), time.Time{}, time.Time{})
	id := n.start("app", stack.ContainerSpec{Image: app, Labels: map[string]string{"both": "own"},
		Command: []string{"trap 'exit 33' USR1; touch /tmp/ready; while :; do sleep 0.02; done"}})
	n.until(events, func(e runtime.Event) bool { return e.Action == "health_status: healthy" })
	n.until(n.ready(id, "/tmp/ready"), func(runtime.Event) bool { return true })
	n.ok(n.Stop(n.ctx(), id, "", nil))
	c := n.inspect(id)
	if c.State.ExitCode != 33 || c.Spec.Labels["of"] != "image" || c.Spec.Labels["both"] != "own" || !slices.Equal(c.Image.ExposedPorts, []string{"80/tcp"}) {
		t.Errorf("exit %d, labels %v, ports %v", c.State.ExitCode, c.Spec.Labels, c.Image.ExposedPorts)
	}
	if _, _, err := n.Create(n.ctx(), "", stack.ContainerSpec{Image: app, User: "nobody-here"}); err == nil {
		id := n.create("nouser", stack.ContainerSpec{Image: app, User: "nobody-here"})
		if err := n.Start(n.ctx(), id); err == nil || !strings.Contains(err.Error(), "nobody-here") {
			t.Errorf("a user that the image does not have: %v", err)
		}
	}
}

// TestIsolation: what a container sees of the host, and what its own modes open.
func TestIsolation(t *testing.T) {
	n := newNode(t)
	ns := func(kind string) []string { return []string{"readlink", "/proc/self/ns/" + kind} }
	for _, tc := range []struct {
		name string
		spec stack.ContainerSpec
		ok   func(out string) bool
	}{
		{"host uts", stack.ContainerSpec{UTSMode: "host", Command: ns("uts")}, func(s string) bool { return s == hostNS(t, "uts")+"\n" }},
		{"host ipc", stack.ContainerSpec{IPCMode: "host", Command: ns("ipc")}, func(s string) bool { return s == hostNS(t, "ipc")+"\n" }},
		{"private by default", stack.ContainerSpec{Command: ns("ipc")}, func(s string) bool { return s != hostNS(t, "ipc")+"\n" }},
		{"private cgroup", stack.ContainerSpec{CgroupnsMode: "private", Command: ns("cgroup")}, func(s string) bool { return s != hostNS(t, "cgroup")+"\n" }},
		{"host users", stack.ContainerSpec{UsernsMode: "host", Command: ns("user")}, func(s string) bool { return s == hostNS(t, "user")+"\n" }},
		{"masked paths", stack.ContainerSpec{Command: []string{"sh", "-c", "cat /proc/keys | wc -c; echo x > /proc/sys/kernel/domainname"}}, func(s string) bool { return strings.HasPrefix(s, "0\n") && strings.Contains(s, "Read-only") }},
		{"unmasked", stack.ContainerSpec{SecurityOpt: []string{"systempaths=unconfined"}, Command: []string{"sh", "-c", "grep -c ' /proc/' /proc/self/mounts"}}, func(s string) bool { return s == "0\n" }},
		{"no device nodes", stack.ContainerSpec{Command: []string{"sh", "-c", "mknod /tmp/fuse c 10 229 && cat /tmp/fuse"}}, func(s string) bool { return strings.Contains(s, "not permitted") }},
		{"device rule", stack.ContainerSpec{DeviceCgroupRules: []string{"c 10:229 rwm"}, Command: []string{"sh", "-c", "mknod /tmp/fuse c 10 229 && : < /tmp/fuse && echo opened"}}, func(s string) bool { return s == "opened\n" }},
		{"tmpfs with mode", stack.ContainerSpec{Mounts: []stack.Mount{{Type: stack.MountTmpfs, Target: "/t", TmpfsMode: 0o1770}}, Command: []string{"stat", "-c", "%a", "/t"}}, func(s string) bool { return s == "1770\n" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n.TB = t
			if got, code := n.run(tc.spec); !tc.ok(got) {
				t.Errorf("%q (exit %d)", got, code)
			}
		})
	}
	n.TB = t
}
