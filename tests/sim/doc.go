// Package sim runs the real reconciler, scheduler, state and leader loop with
// simulated agents in virtual time, all in one process and one goroutine.
//
//	go test ./tests/sim                        random faults on 200 nodes, invariants after every step
//	go test ./tests/sim -run Faults -seed 7    one schedule again
//	make bench                                 10,000 nodes and 1,000,000 tasks, with time and memory
//
// Commands are encoded and decoded on their way to the state, as the log of the
// managers does it; only the log itself and the network are left out.
package sim
