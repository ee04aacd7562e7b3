package overlaynet

// The marks of packets, and of tracked connections, by which published ports
// reach tasks of other nodes. One bit says that the others are ours. They were chosen so that
// those of others stay apart: Kubernetes has 0x4000 and 0x8000, portmap of CNI
// and Podman 0x2000, Tailscale 0xff0000, Calico and Cilium 0xffff0000.
const (
	MeshMask  = 0x1fff // all of ours
	MeshMark  = 0x1000 // to a task of another node; with a node's number: the answer, back to that node
	MeshPeers = 0x0fff // the largest number of a node
)
