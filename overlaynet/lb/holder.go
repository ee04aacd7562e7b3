package lb

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dhow-project/dhow/overlaynet"
)

// holder names the process that has f's port: "process nginx (pid 812)"; ""
// when none can be found.
func holder(f overlaynet.Frontend) string {
	inodes := map[string]bool{}
	for _, table := range []string{f.Protocol, f.Protocol + "6"} {
		file, err := os.Open("/proc/thread-self/net/" + table)
		if err != nil {
			continue
		}
		sc := bufio.NewScanner(file)
		for sc.Scan() {
			if inode, ok := socketOn(sc.Text(), f); ok {
				inodes["socket:["+inode+"]"] = true
			}
		}
		file.Close()
	}
	if len(inodes) == 0 {
		return ""
	}
	return processOf(inodes)
}

// socketOn reads one line of /proc/net/tcp or its likes: "0: 0100007F:1F90
// 00000000:0000 0A ... inode ...". TCP sockets count when they listen.
func socketOn(line string, f overlaynet.Frontend) (inode string, ok bool) {
	col := strings.Fields(line)
	if len(col) < 10 || (f.Protocol == "tcp" && col[3] != "0A") {
		return "", false
	}
	a, port, ok := parseLocal(col[1])
	if !ok || port != f.Port || col[9] == "0" {
		return "", false
	}
	both := a == netip.IPv6Unspecified() // a dual-stack socket holds IPv4 too
	if both || a.IsUnspecified() && a.Is4() == f.Addr.Is4() || a == f.Addr || f.Addr.IsUnspecified() && a.Is4() == f.Addr.Is4() {
		return col[9], true
	}
	return "", false
}

// parseLocal reads "0100007F:1F90": the address in 32-bit words of the
// machine's (little) byte order, the port in hexadecimal.
func parseLocal(s string) (netip.Addr, uint16, bool) {
	h, p, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(h)
	if !ok || err != nil || len(b)%4 != 0 {
		return netip.Addr{}, 0, false
	}
	for i := 0; i+3 < len(b); i += 4 {
		b[i], b[i+1], b[i+2], b[i+3] = b[i+3], b[i+2], b[i+1], b[i]
	}
	a, ok := netip.AddrFromSlice(b)
	port, err := strconv.ParseUint(p, 16, 16)
	return a.Unmap(), uint16(port), ok && err == nil
}

func processOf(inodes map[string]bool) string {
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return ""
	}
	for _, dir := range procs {
		fds, err := os.ReadDir(dir + "/fd")
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if target, err := os.Readlink(dir + "/fd/" + fd.Name()); err == nil && inodes[target] {
				comm, _ := os.ReadFile(dir + "/comm")
				return fmt.Sprintf("process %s (pid %s)", strings.TrimSpace(string(comm)), filepath.Base(dir))
			}
		}
	}
	return ""
}
