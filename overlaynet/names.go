package overlaynet

import (
	"crypto/sha256"
	"encoding/base32"
	"net/netip"
	"strings"
)

var lower32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func digest(n int, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return lower32.EncodeToString(sum[:])[:n]
}

// Mark is the six characters that begin the name of every link and end the
// name of every table that belongs to the node with this run directory.
func Mark(runDir string) string { return "dh" + digest(4, runDir) }

// bridgeName and hostName fit IFNAMSIZ: six characters of mark, one of kind,
// eight (40 bits) of hash.
func bridgeName(mark, network string) string { return mark + "b" + digest(8, network) }

// tunnelName is of the VXLAN device of a network.
func tunnelName(mark, network string) string { return mark + "x" + digest(8, network) }

func hostName(mark, sandbox, network string) string {
	return mark + "v" + digest(8, sandbox, network)
}

// MeshDevice is the name of the device of the mesh (Mesh.Device) on the node
// with this mark; no other link of ours has it.
func MeshDevice(mark string) string { return mark + "mesh" }

// MAC derives the hardware address from the IP address, so that an address
// that is used again comes with the MAC that neighbours may still remember.
func MAC(a netip.Addr) string {
	const hexDigits = "0123456789abcdef"
	b := []byte{0x02, 0x42, 0, 0, 0, 0}
	if a.Is4() {
		v := a.As4()
		copy(b[2:], v[:])
	} else {
		sum := sha256.Sum256(a.AsSlice())
		copy(b[2:], sum[:4])
	}
	out := make([]byte, 0, 17)
	for i, c := range b {
		if i > 0 {
			out = append(out, ':')
		}
		out = append(out, hexDigits[c>>4], hexDigits[c&15])
	}
	return string(out)
}
