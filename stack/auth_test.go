package stack

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestRegistryAuthDoesNotPrint(t *testing.T) {
	a := RegistryAuth{Username: "ann", Password: "hunter2", IdentityToken: "hunter2", RegistryToken: "hunter2"}
	as := Assignment{Auth: &a}
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "auth", a, "pointer", &a)
	fmt.Fprintf(&b, "%v %+v %#v %s %q %x %v %+v %#v", a, a, a, a, a, a, &a, []RegistryAuth{a}, map[string]*RegistryAuth{"r": &a})
	fmt.Fprintf(&b, "%v %+v", as, as)
	if strings.Contains(b.String(), "hunter2") || strings.Contains(b.String(), fmt.Sprintf("%x", "hunter2")) || !strings.Contains(b.String(), "(registry login)") {
		t.Errorf("printed: %s", b.String())
	}
}
