// No look at the cgroup for a number of CPUs that is one anyway.
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

package main

import (
	"syscall"

	"github.com/dhow-project/dhow/runtime/shim/keeper"
)

func main() {
	syscall.Exit(keeper.Main(syscall.Environ()))
}
