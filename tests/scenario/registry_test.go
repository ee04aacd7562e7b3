package scenario

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime/image/imagetest"
	"github.com/dhow-project/dhow/tests/netlab"
)

// registries is a stack of three registries on one store: anybody's on 5000,
// one with a login on 5001 (user:secret), one with a certificate of an own
// authority on 5002.
const registries = `
name: reg
x-registry: &registry
  image: registry:2
  stop_signal: SIGKILL
services:
  plain: {<<: *registry, ports: ["5000:5000"], volumes: ["store:/var/lib/registry"]}
  login:
    <<: *registry
    ports: ["5001:5000"]
    volumes: ["store:/var/lib/registry"]
    environment: {REGISTRY_AUTH: htpasswd, REGISTRY_AUTH_HTPASSWD_REALM: test, REGISTRY_AUTH_HTPASSWD_PATH: /users}
    configs: [{source: users, target: /users}]
  tls:
    <<: *registry
    ports: ["5002:5000"]
    volumes: ["store:/var/lib/registry"]
    environment: {REGISTRY_HTTP_TLS_CERTIFICATE: /tls.crt, REGISTRY_HTTP_TLS_KEY: /tls.key}
    configs: [{source: cert, target: /tls.crt}, {source: key, target: /tls.key}]
volumes: {store: {}}
configs:
  users: {file: ./users}
  cert: {file: ./tls.crt}
  key: {file: ./tls.key}
`

// certificate writes tls.crt and tls.key for addr, signed by itself.
func (s *S) certificate(addr string) (pemCert []byte) {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(addr)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		s.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		s.Fatal(err)
	}
	pemCert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	s.Write("tls.crt", string(pemCert))
	s.Write("tls.key", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})))
	return pemCert
}

// push uploads a busybox with a marker to the open registry on port 5000, with
// size bytes that do not compress in a layer of its own.
func (s *S) push(repo, tag, marker string, size int) {
	s.Helper()
	img := imagetest.Busybox(s.T, repo+":"+tag)
	noise := make([]byte, size)
	rand.Read(noise)
	img.Layers = append(img.Layers, []imagetest.File{{Path: "marker", Content: []byte(marker)}, {Path: "noise", Content: noise}})
	img.Config.Cmd = []string{"sh", "-c", "cat /marker; exec sleep 1000"}
	s.Until("the registry answers", func() error { return s.Get("http://127.0.0.1:5000/v2/").Err() })
	imagetest.Push(s.T, s.Client(), "http://127.0.0.1:5000", repo, tag, imagetest.Build(s.T, img), nil)
}

func TestImagesFromARegistry(t *testing.T) {
	home := t.TempDir()
	t.Setenv("DOCKER_CONFIG", home)
	t.Setenv("PATH", home+":"+os.Getenv("PATH"))
	certs := t.TempDir()
	s := &S{T: t, Dir: t.TempDir()}
	t.Log("images come from registries: plain on localhost, with a login, with an authority of its own; what fails says why")
	if testing.Short() {
		t.Skip("NOT RUN: scenarios are not short")
	}
	s.Host = netlab.New(t).Host("--certs-dir", certs)
	s.Load("registry:2")
	// bcrypt of "secret"
	s.Write("users", "user:$2a$05$6JG7KAjfSEus6f.1XKvOgeqT.8ub/ULLmPrdXIF0JRteWGrYrfXRi\n")
	ca := s.certificate("127.0.0.1")
	s.Compose(registries)
	s.Run("up", "-d", "--wait")
	s.push("app", "1", "one\n", 1000)

	app := func(image string) {
		s.Write("app/compose.yaml", "name: app\nservices:\n  a:\n    image: "+image+"\n    stop_signal: SIGKILL\n")
	}
	up := func(args ...string) []string {
		return append([]string{"-f", "app/compose.yaml", "up", "-d", "--wait"}, args...)
	}
	forget := func() {
		t.Helper()
		s.Run("-f", "app/compose.yaml", "down", "--rmi", "all")
	}
	logs := func() string { t.Helper(); return s.Run("-f", "app/compose.yaml", "logs", "--no-log-prefix", "a") }

	s.Step("plain http on localhost, as up needs it", func() {
		app("127.0.0.1:5000/app:1")
		s.Refused(up("--pull", "never"), "127.0.0.1:5000/app:1", "not here", "service a")
		s.Run(up()...)
		if got := logs(); got != "one\n" {
			t.Errorf("logs: %q", got)
		}
	})
	s.Step("missing leaves the image that is here, always asks for a newer one", func() {
		s.push("app", "1", "two\n", 1000)
		before := s.inspectID("app-a-1")
		s.Run(up("--pull", "missing")...)
		if after := s.inspectID("app-a-1"); after != before {
			t.Error("the container was replaced")
		}
		s.Run(up("--pull", "always")...)
		if got := logs(); got != "two\n" {
			t.Errorf("logs: %q", got)
		}
		forget()
	})
	s.Step("a login: none, a wrong one, the right one, a helper's", func() {
		app("127.0.0.1:5001/app:1")
		config := func(text string) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(home, "config.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s.Refused(up(), "127.0.0.1:5001", "login")
		config(`{"auths": {"127.0.0.1:5001": {"username": "user", "password": "wrong"}}}`)
		s.Refused(up(), "127.0.0.1:5001", "user")
		config(`{"auths": {"127.0.0.1:5001": {"auth": "dXNlcjpzZWNyZXQ="}}}`)
		s.Run(up()...)
		forget()
		helper := "#!/bin/sh\nread host\n[ \"$1 $host\" = 'get 127.0.0.1:5001' ] && echo '{\"Username\": \"user\", \"Secret\": \"secret\"}'\n"
		if err := os.WriteFile(filepath.Join(home, "docker-credential-fromtest"), []byte(helper), 0o755); err != nil {
			t.Fatal(err)
		}
		config(`{"credHelpers": {"127.0.0.1:5001": "fromtest"}}`)
		s.Run(up()...)
		forget()
	})
	s.Step("an authority of its own", func() {
		app(s.Addr + ":5002/app:1")
		s.Write("tls.crt", "") // the one below is the service's
		ca = s.certificate(s.Addr)
		s.Run("up", "-d", "--wait")
		s.Refused(up(), s.Addr+":5002", "certificate")
		dir := filepath.Join(certs, s.Addr+":5002")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "ca.crt"), ca, 0o644); err != nil {
			t.Fatal(err)
		}
		s.Run(up()...)
		forget()
	})
	s.Step("what is not there, and who is not there", func() {
		for image, words := range map[string][]string{
			"127.0.0.1:5000/app:9":     {"127.0.0.1:5000/app:9", "not found"},
			"127.0.0.1:5000/nobody":    {"127.0.0.1:5000/nobody", "not found"},
			"127.0.0.1:5009/app:1":     {"127.0.0.1:5009", "refused"},
			"nowhere.invalid:5000/x:1": {"nowhere.invalid"},
			"127.0.0.1:5000/APP:1":     {"compose.yaml:4", "APP"},
		} {
			app(image)
			s.Refused(up(), words...)
			if out := s.Run("ps", "-a", "-q", "-p", "app"); strings.TrimSpace(out) != "" {
				t.Errorf("%s: containers: %s", image, out)
			}
		}
	})
	s.Step("dhow pull of a stack", func() {
		app("127.0.0.1:5000/app:1")
		s.Run("-f", "app/compose.yaml", "pull")
		s.API("GET", "/images/127.0.0.1:5000/app:1/json", nil)
	})
	s.Run("down", "-v")
	s.Clean()
}

// inspectID is the ID of a container.
func (s *S) inspectID(name string) string {
	s.Helper()
	return s.inspect(name).ID
}

func TestFullDiskDuringPull(t *testing.T) {
	s := &S{T: t, Dir: t.TempDir()}
	t.Log("a disk that fills up during download or unpack is an error that says so, leaves no half image, and pulls work again with room")
	if testing.Short() {
		t.Skip("NOT RUN: scenarios are not short")
	}
	lab := netlab.New(t)
	s.Host = lab.Host()
	s.Load("registry:2")
	s.Compose("name: reg\nservices:\n  plain: {image: 'registry:2', ports: ['5000:5000'], stop_signal: SIGKILL}\n")
	s.Run("up", "-d", "--wait")
	s.push("small", "1", "small\n", 1000)
	s.push("download", "1", "noise\n", 30<<20)

	disk := s.tmpfs(24 << 20)
	b := &S{T: t, Dir: t.TempDir(), Host: lab.HostOn(filepath.Join(disk, "data"), "--insecure-registry", s.Addr+":5000")}
	stack := func(image string) {
		b.Compose("name: app\nservices:\n  a: {image: '" + s.Addr + ":5000/" + image + ":1', stop_signal: SIGKILL}\n")
	}
	images := func() int {
		var list []struct{ ID string }
		b.API("GET", "/images/json", &list)
		return len(list)
	}
	b.Step("during download", func() {
		stack("download")
		b.Refused([]string{"up", "-d", "--wait"}, "download:1", "no space left")
		if n := images(); n != 0 {
			t.Errorf("%d images", n)
		}
	})
	b.Step("what is small enough works beside it", func() {
		stack("small")
		b.Run("up", "-d", "--wait")
		if got := b.Run("logs", "--no-log-prefix", "a"); got != "small\n" {
			t.Errorf("logs: %q", got)
		}
		b.Run("down", "--rmi", "all")
	})
	b.Step("during unpack", func() {
		if r := b.Exec("mount", "-o", "remount,size=50m", disk); r.Code != 0 {
			t.Fatal(r.Err())
		}
		stack("download")
		b.Refused([]string{"up", "-d", "--wait"}, "download:1", "no space left")
		if n := images(); n != 0 {
			t.Errorf("%d images", n)
		}
	})
	b.Step("with room it works", func() {
		if r := b.Exec("mount", "-o", "remount,size=200m", disk); r.Code != 0 {
			t.Fatal(r.Err())
		}
		b.Run("up", "-d", "--wait")
		if got := b.Run("logs", "--no-log-prefix", "a"); got != "noise\n" {
			t.Errorf("logs: %q", got)
		}
	})
	b.Run("down", "-v", "--rmi", "all")
	s.Run("down", "-v")
}
