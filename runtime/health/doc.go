// Package health decides when a container is healthy and runs its probe.
//
//	Resolve(container, image) --> Config --> Start --> Monitor: timer, probe, Next, report
//
// Next is pure: the state after one result. A Monitor is a timer and nothing
// else while it waits: no goroutine and no process. A container without a
// health check has no Monitor at all.
package health
