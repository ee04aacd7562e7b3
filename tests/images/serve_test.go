package images_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// everyServer uses what the public images' documentation promises: variables, files of secrets, scripts of the first
// start, templates, options as the command.
const everyServer = `
name: servers
services:
  postgres:
    image: postgres:15
    environment:
      POSTGRES_USER: app
      POSTGRES_DB: shop
      POSTGRES_PASSWORD_FILE: /run/secrets/password
      POSTGRES_INITDB_ARGS: --data-checksums
      PGDATA: /var/lib/postgresql/data/inner
    secrets: [password]
    configs:
      - {source: table, target: /docker-entrypoint-initdb.d/1.sql}
      - {source: row, target: /docker-entrypoint-initdb.d/2.sh, mode: 0755}
    healthcheck: {test: [CMD, pg_isready, -h, 127.0.0.1, -U, app, -d, shop], interval: 1s, retries: 60}
  mariadb:
    image: mariadb:10
    environment:
      MARIADB_ROOT_PASSWORD_FILE: /run/secrets/password
      MYSQL_DATABASE: shop
      MARIADB_USER: app
      MYSQL_PASSWORD: it's
    secrets: [password]
    configs:
      - {source: table, target: /docker-entrypoint-initdb.d/1.sql}
      - {source: mariarow, target: /docker-entrypoint-initdb.d/2.sql}
    healthcheck: {test: [CMD, mariadb, -h, 127.0.0.1, -uapp, "-pit's", shop, -e, SELECT 1], interval: 1s, retries: 60}
  redis:
    image: redis:7
    command: [--requirepass, pw, --appendonly, "yes"]
  nginx:
    image: nginx:latest
    environment: {GREETING: hello from the template, NGINX_PORT: "8080"}
    configs:
      - {source: template, target: /etc/nginx/templates/default.conf.template}
      - {source: script, target: /docker-entrypoint.d/40-page.sh, mode: 0755}
    ports: ["127.0.0.1:8080:8080"]
  haproxy:
    image: haproxy:2
    configs:
      - {source: haproxy, target: /usr/local/etc/haproxy/haproxy.cfg}
    ports: ["127.0.0.1:8081:8081"]
  memcached:
    image: memcached:1
    command: [-m, "9", -p, "11999"]
  registry:
    image: registry:2
    environment: {REGISTRY_HTTP_ADDR: "0.0.0.0:5999", REGISTRY_STORAGE_DELETE_ENABLED: "true"}
    ports: ["127.0.0.1:5999:5999"]
  python:
    image: python:3
    command: [python, -c, "import flask, redis, psycopg2, gunicorn; app = flask.Flask('a'); app.route('/')(lambda: 'flask'); app.run('0.0.0.0', 5000)"]
    ports: ["127.0.0.1:5000:5000"]
  alpine:
    image: alpine:latest
    command: [sh, -c, grep -q alpine /etc/os-release && exec sleep 1000]
secrets:
  password: {file: password}
configs:
  table: {content: "CREATE TABLE t (v VARCHAR(9));"}
  row: {content: "psql -v ON_ERROR_STOP=1 -U \"$$POSTGRES_USER\" -d \"$$POSTGRES_DB\" -c \"INSERT INTO t VALUES ('kept')\""}
  mariarow: {content: "INSERT INTO t VALUES ('kept');"}
  template:
    content: |
      server { listen $${NGINX_PORT}; location / { add_header X-Host $$host; return 200 "$${GREETING}"; } location /page { alias /tmp/page; } }
  script: {content: "#!/bin/sh\necho from a script > /tmp/page\n"}
  haproxy:
    content: |
      defaults
        mode http
        timeout connect 2s
        timeout client 5s
        timeout server 5s
      frontend in
        bind :8081
        default_backend web
      backend web
        server nginx nginx:8080 check init-addr libc,none resolvers dns
      resolvers dns
        parse-resolv-conf
`

// TestEveryImageServes runs them all at once and asks each what it was told to be.
func TestEveryImageServes(t *testing.T) {
	host := netlab.New(t).Host()
	host.Load("postgres:15", "mariadb:10", "redis:7", "nginx:latest", "haproxy:2", "memcached:1", "registry:2", "python:3", "alpine:latest")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(everyServer), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte("root-word"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := host.TryWith(netlab.Input{Dir: dir}, "up", "-d", "--wait").Err(); err != nil {
		t.Fatal(err)
	}
	for _, ask := range []struct {
		service, script, want string
	}{
		{"postgres", `PGPASSWORD=root-word psql -h "$(hostname -i)" -U app shop -Atc "select v, current_setting('data_checksums'), current_setting('data_directory') from t"`, "kept|on|/var/lib/postgresql/data/inner"},
		{"postgres", `PGPASSWORD=wrong psql -h "$(hostname -i)" -U app shop -c "select 1" 2>&1 | grep -c "password authentication failed"`, "1"},
		{"mariadb", `mariadb -h 127.0.0.1 -uapp "-pit's" shop -Ne "select v from t"`, "kept"},
		{"mariadb", `mariadb -h 127.0.0.1 -uroot -proot-word -Ne "select user()" | cut -d@ -f1`, "root"},
		{"redis", `redis-cli -a pw --no-auth-warning config get appendonly | tail -1; redis-cli ping`, "yes\nNOAUTH Authentication required."},
		{"redis", `stat -c %U /proc/1`, "redis"},
		{"memcached", `exec 3<>/dev/tcp/127.0.0.1/11999; printf 'stats settings\r\nquit\r\n' >&3; tr -d '\r' <&3 | grep maxbytes`, "STAT maxbytes 9437184"},
		{"registry", `test -d /var/lib/registry && echo there`, "there"},
		{"alpine", `cat /etc/alpine-release`, "3.20.0"},
	} {
		shell := "bash"
		if ask.service == "alpine" {
			shell = "sh"
		}
		r := host.TryWith(netlab.Input{Dir: dir}, "exec", "-T", ask.service, shell, "-c", ask.script)
		if got := strings.TrimSpace(r.Stdout); r.Code != 0 || got != ask.want {
			t.Errorf("%s: %s\n answered %q (exit %d) %s, want %q", ask.service, ask.script, got, r.Code, r.Stderr, ask.want)
		}
	}
	for url, want := range map[string]string{
		"http://127.0.0.1:8080/": "hello from the template", "http://127.0.0.1:8080/page": "from a script\n", "http://127.0.0.1:8081/": "hello from the template",
		"http://127.0.0.1:5999/v2/": "{}", "http://127.0.0.1:5000/": "flask",
	} {
		netlab.Eventually(t, 20*time.Second, url, func() error {
			r := host.Get(url)
			if r.Err() == nil && r.Stdout != want {
				t.Logf("%s: %q", url, r.Stdout)
				r.Code = 1
			}
			return r.Err()
		})
	}
	if err := host.TryWith(netlab.Input{Dir: dir}, "down", "-v", "-t", "3").Err(); err != nil {
		t.Error(err)
	}
}
