// Package node is this machine's part in a cluster.
//
// Every machine begins as a cluster of its own: one manager, nothing listens
// ("solo"). Init opens that cluster to others; Join makes the machine a part of
// another one; Leave makes it solo again. What it is stands in member.json,
// which is written in one step and is the point of no return of each of these.
//
//	            +--------------------- Node ---------------------+
//	api ------> | Manager (solo, manager)    Client (every node) | ---> agent
//	            |    |  raft, state, loop        ^  assignments   |
//	            |    +---- dispatch.Server ------+                |
//	            |  Port: raft | sessions | HTTP     Gossip        |
//	            +-------------------------------------------------+
//
// An epoch is the time in which a machine belongs to one cluster under one ID:
// Join and Leave end it, and everything but the port is made anew. Promotion
// and demotion start and end the Manager within an epoch.
package node
