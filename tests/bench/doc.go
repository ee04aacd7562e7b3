// Package bench measures the budgets of docs/performance.md side by side with
// raw runc and, where one answers, a Docker daemon, in one run on one machine.
//
//	make bench
//
// Machines are noisy: only ratios within one run mean something, and nothing
// here fails because of a time.
package bench
