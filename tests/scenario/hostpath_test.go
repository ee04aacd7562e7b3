package scenario

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatTheHostLacksIsRefusedBeforeAnythingChanges(t *testing.T) {
	s := Scenario(t, "a host path, device or file that does not exist is an error with its place, and nothing has changed", "busybox:latest")
	const good = "name: lack\nservices:\n  a: {image: busybox, command: [sleep, '1000'], stop_signal: SIGKILL}\n"
	s.Compose(good)
	s.Run("up", "-d", "--wait")
	before := s.IDs()
	s.Write("plain.txt", "not a directory")

	const head = good + "  b:\n    image: busybox\n    command: [sleep, '1000']\n" // its keys go on at line 7
	for _, tc := range []struct {
		name, file string
		words      []string
	}{
		{"bind, long form", head + "    volumes:\n      - {type: bind, source: ./nope, target: /x, bind: {create_host_path: false}}\n",
			[]string{"compose.yaml:8", "services.b.volumes[0]", "/nope does not exist"}},
		{"bind, short form below a file", head + "    volumes:\n      - ./plain.txt/sub:/x\n", []string{"compose.yaml:8", "plain.txt/sub", "not a directory"}},
		{"two at once", head + "    volumes:\n      - {type: bind, source: ./one, target: /x, bind: {create_host_path: false}}\n      - {type: bind, source: ./two, target: /y, bind: {create_host_path: false}}\n",
			[]string{"compose.yaml:8", "/one does not exist", "compose.yaml:9", "/two does not exist"}},
		{"device", head + "    devices: [/dev/null, /dev/nope]\n", []string{"compose.yaml:7", "services.b.devices[1]", "/dev/nope", "does not exist"}},
		{"device that is none", head + "    devices: [/etc/passwd]\n", []string{"compose.yaml:7", "/etc/passwd", "not a device"}},
		{"secret file", head + "    secrets: [s]\nsecrets: {s: {file: ./nope.txt}}\n", []string{"compose.yaml:8", "secrets.s.file", "nope.txt"}},
		{"config file", head + "    configs: [c]\nconfigs: {c: {file: ./nope.conf}}\n", []string{"compose.yaml:8", "configs.c.file", "nope.conf"}},
		{"env file", head + "    env_file: ./nope.env\n", []string{"compose.yaml:7", "nope.env"}},
		{"volume's directory", head + "    volumes: ['vol:/x']\nvolumes:\n  vol:\n    driver_opts: {type: none, o: bind, device: /nope/dir}\n",
			[]string{"compose.yaml:10", "volumes.vol.driver_opts", "/nope/dir does not exist"}},
		{"volume's options", head + "    volumes: ['vol:/x']\nvolumes:\n  vol:\n    driver_opts: {o: size=5}\n", []string{"compose.yaml:10", "volumes.vol.driver_opts"}},
		{"external volume", head + "    volumes: ['vol:/x']\nvolumes: {vol: {external: true, name: elsewhere}}\n", []string{"volume vol", "external", "elsewhere"}},
	} {
		s.Step(tc.name, func() {
			s.Compose(tc.file)
			s.Refused([]string{"up", "-d", "--wait"}, tc.words...)
			s.Refused([]string{"plan"}, tc.words...)
			s.Refused([]string{"up", "--dry-run"}, tc.words...)
		})
	}
	s.Step("a mistake shows before an image is pulled", func() {
		s.Compose("name: lack\nservices:\n  b:\n    image: 127.0.0.1:1/nope:1\n    volumes:\n      - {type: bind, source: ./nope, target: /x, bind: {create_host_path: false}}\n")
		s.Refused([]string{"up", "-d"}, "compose.yaml:6", "/nope does not exist")
	})
	s.Compose(good)
	s.Step("nothing has changed", func() {
		s.Same(before, s.IDs(), "lack-a-1")
		if out := strings.TrimSpace(s.Run("plan")); out != "no changes" {
			t.Errorf("plan: %s", out)
		}
		if out := s.Run("volume", "ls", "-q"); out != "" {
			t.Errorf("volumes: %q", out)
		}
	})
	s.Step("the short form makes a missing directory, as Compose says", func() {
		s.Compose(head + "    volumes: ['./made/by/up:/x']\n    stop_signal: SIGKILL\n")
		s.Run("up", "-d", "--wait")
		if fi, err := os.Stat(filepath.Join(s.Dir, "made", "by", "up")); err != nil || !fi.IsDir() {
			t.Errorf("directory: %v", err)
		}
	})
	s.Step("a running container whose source went away is left alone", func() {
		before := s.IDs()
		if err := os.RemoveAll(filepath.Join(s.Dir, "made")); err != nil {
			t.Fatal(err)
		}
		s.Run("up", "-d", "--wait")
		s.Same(before, s.IDs(), "lack-a-1", "lack-b-1")
	})
	s.Run("down", "-v")
	s.Clean()
}
