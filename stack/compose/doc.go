// Package compose loads Compose files into stack.Stack.
//
// Every key of the Compose Specification is translated or refused, never
// ignored; all problems of a load are reported together, each with the file,
// the line and the path of the key. It is the one home of compose-go, and no
// exported signature mentions its types.
//
//	files, .env, environment --> yaml nodes (positions, own checks) --+
//	                         --> compose-go (merge, interpolation)  --+--> translate --> stack.Stack
package compose
