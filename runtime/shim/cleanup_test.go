package shim_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime/shim"
)

// A process that waits inside the kernel is killed as soon as the kernel lets
// it; its cgroup is not left behind for that. Here it waits for a file system
// that is frozen.
func TestCleanupWaitsForWhoTheKernelHolds(t *testing.T) {
	needRunc(t)
	for _, name := range []string{"mkfs.ext4", "fsfreeze", "mount"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip("SKIP: needs ", name)
		}
	}
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v: %s", name, args, err, out)
		}
	}
	image, disk := filepath.Join(t.TempDir(), "image"), t.TempDir()
	run("truncate", "-s", "16M", image)
	run("mkfs.ext4", "-q", image)
	run("mount", "-o", "loop", image, disk)
	t.Cleanup(func() { run("umount", disk) })

	c := makeConfig(t, nil, "true")
	launch(t, c)
	group := "/sys/fs/cgroup/memory" + c.CgroupPath
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err != nil {
		group = "/sys/fs/cgroup" + c.CgroupPath // v2
	}
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	run("fsfreeze", "--freeze", disk)
	writer := exec.Command("busybox", "sh", "-c", "echo $$ > "+group+"/cgroup.procs; echo x > "+disk+"/f")
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- writer.Wait() }()
	thawed := time.AfterFunc(1500*time.Millisecond, func() { _ = exec.Command("fsfreeze", "--unfreeze", disk).Run() })
	t.Cleanup(func() {
		if thawed.Stop() {
			run("fsfreeze", "--unfreeze", disk)
		}
		<-ended
	})
	eventually(t, "it is held", func() bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", writer.Process.Pid))
		return strings.Contains(string(b), ") D ")
	})
	if _, err := shim.Cleanup(context.Background(), c.Dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(group); err == nil {
		t.Error("the group is left")
	}
}
