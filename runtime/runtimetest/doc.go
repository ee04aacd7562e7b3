// Package runtimetest holds what tests of and around the engine share: Fake, an
// engine without processes that holds state and prints itself, and Run, the
// conformance suite that the fake and the real engine both pass.
//
//	Run(t, newEngine) --> Fake            (agent, API and cluster tests)
//	                  --> engine.Engine   (with runc, in runtime/engine)
package runtimetest
