package keeper

import (
	"os/exec"
	"strings"
	"testing"
)

// The shim is resident once per container: what these packages would add is
// paid for by each of them.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "github.com/dhow-project/dhow/cmd/dhow-shim").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range strings.Fields(string(out)) {
		switch p {
		case "os", "fmt", "net", "reflect", "context", "encoding/json", "encoding/binary", "log", "os/exec", "github.com/dhow-project/dhow/runtime", "github.com/dhow-project/dhow/stack":
			t.Errorf("imports %s", p)
		}
	}
}

func TestRuntimeMessage(t *testing.T) {
	log := `{"level":"warning","msg":"odd","time":"x"}
{"level":"error","msg":"run failed: exec: \"x\": not\u0020found\n","time":"x"}
`
	if got := runtimeMessage([]byte(log)); got != "run failed: exec: \"x\": not found\n" {
		t.Errorf("%q", got)
	}
}
