package images

const (
	base   = "debian:bookworm-slim"
	pathFS = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

func set(keys ...string) map[string]struct{} {
	m := make(map[string]struct{}, len(keys))
	for _, k := range keys {
		m[k] = struct{}{}
	}
	return m
}

// busyboxSetup turns Debian's static busybox into a root file system of its own.
const busyboxSetup = `
set -e
mkdir -p bin sbin usr/bin usr/sbin etc tmp root var home dev proc sys run
chmod 1777 tmp
/usr/bin/busybox --list-full | while read -r path; do
  case "$path" in linuxrc|usr/bin/busybox|bin/busybox) continue;; esac
  ln -sf /bin/busybox "$path"
done
`

var recipes = []recipe{
	{
		Ref:    base,
		Config: config{Env: []string{pathFS}, Cmd: []string{"bash"}},
	},
	{
		Ref: "busybox:latest", Assets: "busybox", Packages: []string{"busybox-static"}, Setup: busyboxSetup,
		Config: config{Env: []string{pathFS}, Cmd: []string{"sh"}},
	},
	{
		// A stand-in: the files a script looks for, and busybox's tools; no apk.
		Ref: "alpine:latest", Assets: "busybox", Packages: []string{"busybox-static"},
		Setup: busyboxSetup + `
echo 3.20.0 > etc/alpine-release
printf 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.20.0\nPRETTY_NAME="Alpine Linux (stand-in on Debian busybox)"\n' > etc/os-release
`,
		Config: config{Env: []string{pathFS}, Cmd: []string{"/bin/sh"}},
	},
	{
		Ref: "nginx:latest", From: base, Assets: "nginx", Packages: []string{"nginx-light", "gettext-base", "curl", "ca-certificates"},
		Setup: `
set -e
adduser --system --group --no-create-home --home /nonexistent --shell /bin/false nginx
mkdir -p /usr/share/nginx/html /etc/nginx/conf.d /docker-entrypoint.d /var/cache/nginx
rm -rf /etc/nginx/sites-* /etc/nginx/modules-enabled
ln -sf /dev/stdout /var/log/nginx/access.log
ln -sf /dev/stderr /var/log/nginx/error.log
`,
		Config: config{
			Env: []string{pathFS}, Entrypoint: []string{"/docker-entrypoint.sh"}, Cmd: []string{"nginx", "-g", "daemon off;"},
			ExposedPorts: set("80/tcp"), StopSignal: "SIGQUIT",
		},
	},
	{
		Ref: "redis:7", From: base, Assets: "redis", Packages: []string{"redis-server", "redis-tools", "gosu"},
		Setup: "set -e; mkdir -p /data; chown redis:redis /data",
		Config: config{
			Env: []string{pathFS}, Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"redis-server"}, WorkingDir: "/data",
			ExposedPorts: set("6379/tcp"), Volumes: set("/data"),
		},
	},
	{
		Ref: "postgres:15", From: base, Assets: "postgres", Packages: []string{"postgresql-15", "gosu"},
		Setup: `
set -e
rm -rf /var/lib/postgresql/15 /etc/postgresql
mkdir -p /docker-entrypoint-initdb.d /var/lib/postgresql/data
chown -R postgres:postgres /var/lib/postgresql /var/run/postgresql
chmod 3777 /var/run/postgresql; chmod 1777 /var/lib/postgresql/data
sed -ri "s!^#?(listen_addresses)\s*=\s*\S+.*!\1 = '*'!" /usr/share/postgresql/15/postgresql.conf.sample
`,
		Config: config{
			Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/15/bin", "PG_MAJOR=15", "PGDATA=/var/lib/postgresql/data", "LANG=C.UTF-8"},
			Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"postgres"}, StopSignal: "SIGINT",
			ExposedPorts: set("5432/tcp"), Volumes: set("/var/lib/postgresql/data"),
		},
	},
	{
		Ref: "mariadb:10", From: base, Assets: "mariadb", Packages: []string{"mariadb-server", "gosu"},
		Setup: `
set -e
rm -rf /var/lib/mysql; mkdir -p /var/lib/mysql /run/mysqld /docker-entrypoint-initdb.d
chown mysql:mysql /var/lib/mysql /run/mysqld; chmod 1777 /run/mysqld
sed -i 's/^bind-address.*/bind-address = 0.0.0.0/' /etc/mysql/mariadb.conf.d/50-server.cnf
`,
		Config: config{
			Env: []string{pathFS, "LANG=C.UTF-8"}, Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"mariadbd"},
			ExposedPorts: set("3306/tcp"), Volumes: set("/var/lib/mysql"),
		},
	},
	{
		Ref: "memcached:1", From: base, Assets: "memcached", Packages: []string{"memcached"},
		Config: config{
			Env: []string{pathFS}, Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"memcached"}, User: "memcache",
			ExposedPorts: set("11211/tcp"),
		},
	},
	{
		Ref: "python:3", From: base,
		Packages: []string{"python3", "python3-flask", "gunicorn", "python3-gunicorn", "python3-redis", "python3-psycopg2", "ca-certificates"},
		Setup:    "ln -sf python3 /usr/bin/python",
		Config:   config{Env: []string{pathFS, "LANG=C.UTF-8"}, Cmd: []string{"python3"}},
	},
	{
		Ref: "registry:2", From: base, Assets: "registry", Packages: []string{"docker-registry", "ca-certificates"},
		Setup: "set -e; ln -sf docker-registry /usr/bin/registry; mkdir -p /var/lib/registry",
		Config: config{
			Env: []string{pathFS}, Entrypoint: []string{"/entrypoint.sh"}, Cmd: []string{"/etc/docker/registry/config.yml"},
			ExposedPorts: set("5000/tcp"), Volumes: set("/var/lib/registry"),
		},
	},
	{
		Ref: "haproxy:2", From: base, Assets: "haproxy", Packages: []string{"haproxy"},
		Setup: "mkdir -p /usr/local/etc/haproxy /var/lib/haproxy",
		Config: config{
			Env: []string{pathFS}, Entrypoint: []string{"docker-entrypoint.sh"},
			Cmd: []string{"haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"}, User: "haproxy", WorkingDir: "/var/lib/haproxy", StopSignal: "SIGUSR1",
		},
	},
}
