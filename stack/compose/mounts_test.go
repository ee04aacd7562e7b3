package compose

import (
	"context"
	"testing"
)

func TestHostPathsAreCreatedUnlessTheFileSaysNot(t *testing.T) {
	text := `
services:
  a:
    image: busybox
    volumes:
      - /x:/0
      - {type: bind, source: /x, target: /1}
      - {type: bind, source: /x, target: /2, bind: {propagation: rprivate}}
      - {type: bind, source: /x, target: /3, bind: {create_host_path: true}}
      - {type: bind, source: /x, target: /4, bind: {create_host_path: false}}
`
	p, err := Load(context.Background(), Options{WorkingDir: realDir(t), ProjectName: "paths", Files: []string{"-"}, Stdin: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	mounts := p.Stack.Services["a"].Container.Mounts
	if len(mounts) != 5 {
		t.Fatalf("%d mounts, want 5", len(mounts))
	}
	for _, m := range mounts {
		if want := m.Target != "/4"; m.CreateHostPath != want {
			t.Errorf("%s: created %v, want %v", m.Target, m.CreateHostPath, want)
		}
	}
}
