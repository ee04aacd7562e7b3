// Package engine runs the containers of one node.
//
//	Create --> record on disk --> Start: rootfs | network | shim  (side by side)
//	                                     \   spec   /
//	                                 shim: runc run --detach --> process
//	   restart policy <-- exit handling <-- exit.json <----------/
//
// A container is one object here, whether it came from a task or from `docker
// run`, and whether it runs or not. What does not change is its record, what
// does is its state; both are small files (see store), so
// that a kill -9 at any line leaves the old or the new one.
//
//	DataDir/containers/ID/record.json   spec, image, name; secrets sealed
//	DataDir/containers/ID/state.json    status, exit code, counts, health, endpoints
//	DataDir/containers/ID/ID.log        output, written by the shim
//	RunDir/c/ID[:16]/                   bundle and shim directory of a started container
//	RunDir/runc/                        state of the OCI runtime
//	RunDir/lease                        of the node: read only, for containers that must not run twice
//
// Invariants. The bundle directory exists exactly while something of a start
// may exist (process, mounts, network): whoever finds one without a live
// container cleans it up. A state is saved before anyone is told. One
// operation at a time holds a container's op lock; nothing holds it while it
// waits for a process to end, so that a kill is always possible. mu of a
// container is held for memory only, never across I/O but the state's write.
//
// The engine declares what it needs of images, networks and volumes and knows
// none of their packages' insides.
package engine
