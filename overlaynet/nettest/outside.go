package nettest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Outside makes a machine beside the host: host 192.0.2.1, outside 192.0.2.9,
// and their IPv6 likes; it returns the path of its namespace.
func Outside(t testing.TB) string {
	t.Helper()
	var h netns.NsHandle
	Must(t, In(t, "/proc/self/ns/net", func() (err error) { h, err = netns.New(); return err }))
	path := filepath.Join(t.TempDir(), "outside")
	Must(t, os.WriteFile(path, nil, 0o600))
	Must(t, unix.Mount(fmt.Sprintf("/proc/self/fd/%d", int(h)), path, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	la := netlink.NewLinkAttrs()
	la.Name = "uplink"
	Must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: la, PeerName: "eth0", PeerNamespace: netlink.NsFd(h)}))
	config := func(name string, addrs ...string) error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		// A link-local address under test for duplicates finds no neighbours for a second.
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/accept_dad", []byte("0"), 0); err != nil {
			return err
		}
		for _, a := range addrs {
			addr, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			addr.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(l, addr); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(l)
	}
	Must(t, config("uplink", "192.0.2.1/24", "2001:db8::1/64"))
	Must(t, In(t, path, func() error {
		if err := config("eth0", "192.0.2.9/24", "2001:db8::9/64"); err != nil {
			return err
		}
		if err := config("lo"); err != nil {
			return err
		}
		_, err := netlink.LinkByName("eth0") // makes the kernel finish the change of carrier
		return err
	}))
	_, err := netlink.LinkByName("uplink")
	Must(t, err)
	h.Close()
	return path
}
