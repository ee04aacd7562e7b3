package oci

import (
	"bufio"
	"compress/gzip"
	"io"
	"os"
	goruntime "runtime"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// missingABIs are the foreign system call tables of the default seccomp
// profile that this kernel does not have at all. The runtime compiles the
// profile at every start and every exec, once for each table: without x32,
// which hardly a kernel has, a container starts a quarter sooner (9 of 42 ms
// where it was measured). A call through a table that is not listed kills the
// process; here the kernel would not have answered it either.
func missingABIs() []specs.Arch {
	if goruntime.GOARCH != "amd64" {
		return nil
	}
	options, err := kernelOptions("CONFIG_X86_X32_ABI", "CONFIG_IA32_EMULATION")
	if err != nil {
		return nil // nobody knows: keep them
	}
	var out []specs.Arch
	if options["CONFIG_X86_X32_ABI"] == "" {
		out = append(out, specs.ArchX32)
	}
	if options["CONFIG_IA32_EMULATION"] == "" {
		out = append(out, specs.ArchX86)
	}
	return out
}

// kernelOptions looks options up in the configuration that the running kernel
// was built with; one that is not set is "".
func kernelOptions(names ...string) (map[string]string, error) {
	r, err := kernelConfig()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	out := map[string]string{}
	scan := bufio.NewScanner(r)
	for scan.Scan() {
		if name, value, ok := strings.Cut(scan.Text(), "="); ok && slices.Contains(names, name) {
			out[name] = value
		}
	}
	return out, scan.Err()
}

func kernelConfig() (io.ReadCloser, error) {
	if f, err := os.Open("/proc/config.gz"); err == nil {
		z, err := gzip.NewReader(f)
		if err != nil {
			f.Close()
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{z, f}, nil
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, err
	}
	return os.Open("/boot/config-" + unix.ByteSliceToString(u.Release[:]))
}

func without(list, drop []specs.Arch) []specs.Arch {
	if len(drop) == 0 {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(a specs.Arch) bool { return slices.Contains(drop, a) })
}
