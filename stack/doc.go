// Package stack holds the nouns of dhow: Stack, Service, ContainerSpec, Task,
// Network, Volume, Secret and Config.
//
// They are plain data with useful zero values. The package imports the
// standard library only and does no I/O, so every other package may import it.
// A value that reaches a driver has been through Validate; a value that crosses
// a goroutine has been through Clone.
//
//	compose.yaml --stack/compose--> Stack --stack/plan--> Plan --cluster--> Task --runtime/agent--> ContainerSpec
package stack
