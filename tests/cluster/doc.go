// Package cluster shows on hosts made of network namespaces what users may rely
// on when machines, links and disks fail. Each host runs the real daemon with
// real containers; nothing is mocked. Every test checks at its end that nothing
// is left behind.
package cluster
