// Package wire is the protocol between dhow-shim and its clients on the unix
// socket DIR/shim.sock. It imports next to nothing: it is part of the resident
// shim.
//
// Both sides send frames:
//
//	length uint32 | type uint8 | id uint32 | payload (length bytes, at most 64 KiB)
//
// All integers are little endian; a string in a payload is its length as
// uint32 and its bytes. A peer that sends a longer frame, an unknown type or
// a payload that does not parse is disconnected.
//
// A connection begins as a control connection. The shim speaks first: a State
// frame with id 0. Each request carries an id of the client's choice, and its
// answer (OK, Error, State, Started) the same id; answers may come in another
// order than requests. Exit is sent with id 0 to every connection when the
// container has ended and DIR/exit.json is written; after it the shim ends.
//
//	GetState                          -> State
//	Run                               -> Started, or Error with the runtime's message
//	Resize  exec, rows, cols          -> OK     exec "" is the container
//	Signal  exec, signal, all         -> OK     all: every process of the container
//	CloseStdin                        -> OK
//	Command verb, path                -> OK     pause, resume, update (path: resources JSON)
//	Attach  streams                   -> Started; the connection is now a stream
//	Exec    id, streams, tty, file    -> Started; the connection is now a stream
//	Rejoin  exec                      -> Started; the connection is now a stream
//	                                     without data: it waits for the Exit of
//	                                     an exec that runs or has just ended
//
// A stream connection carries Data frames (id 0 stdin, 1 stdout, 2 stderr)
// and, from the client, an EOF frame for stdin: the other direction goes on.
// Its last frame is Exit (of the container, or of the exec); every byte of
// output comes before it. Closing the connection leaves the process alone,
// but ends the stdin of an exec.
package wire
