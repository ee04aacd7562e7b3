#!/usr/bin/env bash
# Prepares a database cluster on the first start, then runs the command as the postgres user.
# POSTGRES_PASSWORD, POSTGRES_USER, POSTGRES_DB, POSTGRES_INITDB_ARGS, POSTGRES_INITDB_WALDIR,
# POSTGRES_HOST_AUTH_METHOD and PGDATA are honoured; the first four may come from a file (NAME_FILE).
set -Eeo pipefail

# from_file VAR DEFAULT: VAR, or the content of the file named by VAR_FILE, or DEFAULT.
from_file() {
  local file="${1}_FILE"
  if [ -n "${!1:-}" ] && [ -n "${!file:-}" ]; then
    echo >&2 "error: both $1 and $file are set (only one may be)"
    exit 1
  fi
  local value="${!1:-${2:-}}"
  [ -z "${!file:-}" ] || value=$(<"${!file}")
  export "$1"="$value"
  unset "$file"
}

temporary_server() { PGUSER="${PGUSER:-$POSTGRES_USER}" pg_ctl -D "$PGDATA" -o "-c listen_addresses='' -p 5432" -w "$@"; }
sql() { PGHOST= PGHOSTADDR= psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password --username "$POSTGRES_USER" "$@"; }

init_scripts() {
  local f
  for f in /docker-entrypoint-initdb.d/*; do
    [ -e "$f" ] || continue
    echo "$0: $f"
    case "$f" in
    *.sh) if [ -x "$f" ]; then "$f"; else . "$f"; fi ;;
    *.sql) sql --dbname "$POSTGRES_DB" -f "$f" ;;
    *.sql.gz) gunzip -c "$f" | sql --dbname "$POSTGRES_DB" ;;
    *.sql.xz) xzcat "$f" | sql --dbname "$POSTGRES_DB" ;;
    *.sql.zst) zstd -dc "$f" | sql --dbname "$POSTGRES_DB" ;;
    *) echo "$0: ignoring $f" ;;
    esac
  done
}

init_cluster() {
  if [ -z "$POSTGRES_PASSWORD" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
    echo >&2 "error: the database is uninitialized and POSTGRES_PASSWORD is not set"
    echo >&2 "  set it to a non-empty value, or POSTGRES_HOST_AUTH_METHOD=trust to allow all connections without one"
    exit 1
  fi
  local waldir=()
  [ -z "${POSTGRES_INITDB_WALDIR:-}" ] || waldir=(--waldir "$POSTGRES_INITDB_WALDIR")
  eval "initdb --username=\"\$POSTGRES_USER\" --pwfile=<(printf '%s\n' \"\$POSTGRES_PASSWORD\") \"\${waldir[@]}\" ${POSTGRES_INITDB_ARGS:-}"
  printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-$(postgres -C password_encryption -D "$PGDATA")}" >>"$PGDATA/pg_hba.conf"
  export PGPASSWORD="$POSTGRES_PASSWORD"
  temporary_server start
  if [ "$POSTGRES_DB" != postgres ]; then
    sql --dbname postgres --set db="$POSTGRES_DB" <<<'CREATE DATABASE :"db" ;'
  fi
  init_scripts
  temporary_server -m fast stop
  unset PGPASSWORD
  printf '\nPostgreSQL init process complete; ready for start up.\n\n'
}

[ "${1:0:1}" != - ] || set -- postgres "$@"
if [ "$1" = postgres ]; then
  mkdir -p "$PGDATA" /var/run/postgresql
  chmod 00700 "$PGDATA" || true
  if [ "$(id -u)" = 0 ]; then
    find "$PGDATA" \! -user postgres -exec chown postgres '{}' +
    exec gosu postgres "$BASH_SOURCE" "$@"
  fi
  from_file POSTGRES_PASSWORD
  from_file POSTGRES_USER postgres
  from_file POSTGRES_DB "$POSTGRES_USER"
  from_file POSTGRES_INITDB_ARGS
  [ -s "$PGDATA/PG_VERSION" ] || init_cluster
fi
exec "$@"
