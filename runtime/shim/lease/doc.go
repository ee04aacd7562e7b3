// Package lease is the file by which a node's daemon tells the shims of
// containers that must never run twice for how long this node is still part
// of its cluster.
//
//	daemon --Write, once a second--> RUNDIR/lease <--Read, shortly before the end-- dhow-shim
//
// The end is a moment of CLOCK_BOOTTIME: it passes while processes stand still
// and while the machine sleeps, and nobody sets it. It says nothing after a
// reboot, so the boot is part of the file.
//
// The shim imports it: it may bring in nothing but package syscall and time.
package lease
