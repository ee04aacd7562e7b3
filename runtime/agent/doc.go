// Package agent makes the containers of a node match the tasks assigned to it,
// and reports what it sees.
//
//	Source.Assignments --+                        +--> engine calls, one worker per task at a time
//	engine events -------+--> Step (pure) per task +
//	retry timers --------+                        +--> Source.Report, many statuses at once
//
// Every loop is level-triggered: events only say which task to look at again. A
// task's container is found by its label, so that nothing is remembered across
// a restart of the daemon but what the state and the engine know.
//
// The engine restarts containers in place, as their restart policy says; the
// agent reports it. What a person does to a container by hand is left alone
// until the task asks for more than it did before.
package agent
