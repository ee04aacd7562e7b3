// Package shim is the engine's side of dhow-shim, the small process that keeps
// one container: its standard streams, its log file and its exit code.
//
//	Launch --> dhow-shim (own session, subreaper) --> runc run --detach --> container
//	  |            |  DIR/shim.sock   frames of package wire
//	Client <-------+  DIR/exit.json   on disk before anyone is told
//	                  DIR/shim.json   the Config, for Connect and Cleanup
//	                  DIR/shim.pid    "PID STARTTIME", to find a shim that hangs
//
// The shim outlives the daemon: after a restart Connect finds it again; when it
// is gone, ReadExit tells how the container ended; when it was killed and left
// no exit.json, Cleanup ends what it left and writes one.
//
// At the end of the container the shim removes it from the runtime (state and
// cgroup are gone), writes what is left in the pipes to the log, then
// exit.json, tells every client, waits until attached clients have what is
// theirs, and ends.
//
// Slow clients: each attached client has a buffer of 1 MiB in the shim. When it
// is full the container waits, as it does with any slow reader at the end of a
// pipe, so that `attach | xz` loses nothing; the log waits with it, as it is fed
// by the same reads. A client that takes nothing at all for five seconds is
// dropped and the container goes on. `logs -f` reads the files and holds nobody up.
//
// The engine may import this package; it imports the nouns only. The shim
// itself lives in keeper, with as few imports as it can: it is resident once
// per container.
package shim
