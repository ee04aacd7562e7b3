package server

import "github.com/dhow-project/dhow/runtime"

// execByName is what processes of execs do in these tests.
func execByName(_ string, spec runtime.ExecSpec) (string, int) {
	switch spec.Args[0] {
	case "yes":
		return "yes!\n", 0
	case "no":
		return "", 127
	}
	return "", 0
}
