// Command dhow-shim keeps one container for the dhow daemon: its standard
// streams, its log file and its exit code. The daemon starts it; see package
// keeper.
package main
