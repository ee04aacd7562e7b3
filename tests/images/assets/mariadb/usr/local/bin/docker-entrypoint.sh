#!/usr/bin/env bash
# Prepares a data directory on the first start, then runs the command as the mysql user. Honoured, each also as MYSQL_*
# and as NAME_FILE: MARIADB_ROOT_PASSWORD, MARIADB_RANDOM_ROOT_PASSWORD, MARIADB_ALLOW_EMPTY_ROOT_PASSWORD,
# MARIADB_ROOT_HOST, MARIADB_DATABASE, MARIADB_USER, MARIADB_PASSWORD.
set -Eeo pipefail

say() { echo "$(date -Iseconds) [Note] [Entrypoint]: $*"; }
die() { echo >&2 "$(date -Iseconds) [ERROR] [Entrypoint]: $*"; exit 1; }

# from_env NAME DEFAULT: MARIADB_NAME, its _FILE, or the older MYSQL_NAME and its _FILE.
from_env() {
  local v prefix var file
  for prefix in MARIADB MYSQL; do
    var="${prefix}_$1"; file="${var}_FILE"
    if [ -n "${!var:-}" ] && [ -n "${!file:-}" ]; then die "both $var and $file are set (only one may be)"; fi
    [ -n "${v:-}" ] || v="${!var:-}"
    if [ -z "${v:-}" ] && [ -n "${!file:-}" ]; then v=$(<"${!file}"); fi
    unset "$file"
  done
  export "MARIADB_$1"="${v:-${2:-}}"
}

quote() { local s=${1//\\/\\\\}; printf "'%s'" "${s//\'/\\\'}"; }
sql() { mariadb --protocol=socket -uroot -hlocalhost --socket=/run/mysqld/mysqld.sock "$@"; }

init_data() {
  if [ -z "$MARIADB_ROOT_PASSWORD$MARIADB_ALLOW_EMPTY_ROOT_PASSWORD$MARIADB_RANDOM_ROOT_PASSWORD" ]; then
    die "the database is uninitialized and no password option is set: set one of MARIADB_ROOT_PASSWORD, MARIADB_ALLOW_EMPTY_ROOT_PASSWORD and MARIADB_RANDOM_ROOT_PASSWORD"
  fi
  if [ -n "$MARIADB_RANDOM_ROOT_PASSWORD" ]; then
    MARIADB_ROOT_PASSWORD=$(head -c 24 /dev/urandom | base64)
    say "GENERATED ROOT PASSWORD: $MARIADB_ROOT_PASSWORD"
  fi
  say "initializing database files"
  [ ! -e /var/lib/mysql/.init-incomplete ] || find /var/lib/mysql -mindepth 1 ! -name .init-incomplete -delete
  touch /var/lib/mysql/.init-incomplete
  mariadb-install-db --auth-root-authentication-method=normal --skip-test-db --datadir=/var/lib/mysql >/dev/null
  "$@" --skip-networking --socket=/run/mysqld/mysqld.sock &
  local pid=$! i
  for i in $(seq 300); do
    sql -e 'SELECT 1' >/dev/null 2>&1 && break
    kill -0 "$pid" 2>/dev/null || die "the temporary server ended"
    sleep 0.1
  done
  {
    echo "SET @@SESSION.SQL_LOG_BIN=0;"
    if [ -n "$MARIADB_DATABASE" ]; then echo "CREATE DATABASE IF NOT EXISTS \`$MARIADB_DATABASE\`;"; fi
    if [ -n "$MARIADB_USER" ] && [ -n "$MARIADB_PASSWORD" ]; then
      echo "CREATE USER $(quote "$MARIADB_USER")@'%' IDENTIFIED BY $(quote "$MARIADB_PASSWORD");"
      if [ -n "$MARIADB_DATABASE" ]; then echo "GRANT ALL ON \`${MARIADB_DATABASE//_/\\_}\`.* TO $(quote "$MARIADB_USER")@'%';"; fi
    fi
  } | sql
  local f
  for f in /docker-entrypoint-initdb.d/*; do
    [ -e "$f" ] || continue
    say "$f"
    case "$f" in
    *.sh) if [ -x "$f" ]; then "$f"; else . "$f"; fi ;;
    *.sql) sql ${MARIADB_DATABASE:+"$MARIADB_DATABASE"} <"$f" ;;
    *.sql.gz) gunzip -c "$f" | sql ${MARIADB_DATABASE:+"$MARIADB_DATABASE"} ;;
    *) say "ignoring $f" ;;
    esac
  done
  {
    [ "$MARIADB_ROOT_HOST" = localhost ] || echo "CREATE USER IF NOT EXISTS 'root'@$(quote "$MARIADB_ROOT_HOST") IDENTIFIED BY $(quote "$MARIADB_ROOT_PASSWORD"); GRANT ALL ON *.* TO 'root'@$(quote "$MARIADB_ROOT_HOST") WITH GRANT OPTION;"
    echo "SET PASSWORD FOR 'root'@'localhost' = PASSWORD($(quote "$MARIADB_ROOT_PASSWORD"));"
  } | sql
  kill "$pid"
  wait "$pid"
  rm /var/lib/mysql/.init-incomplete
  say "MariaDB init process done. Ready for start up."
}

case "${1:-}" in -*) set -- mariadbd "$@" ;; esac
if [ "${1:-}" = mariadbd ] || [ "${1:-}" = mysqld ]; then
  if [ "$(id -u)" = 0 ]; then
    mkdir -p /run/mysqld
    find /var/lib/mysql /run/mysqld \! -user mysql -exec chown mysql: '{}' +
    exec gosu mysql "${BASH_SOURCE[0]}" "$@"
  fi
  from_env ROOT_PASSWORD
  from_env ALLOW_EMPTY_ROOT_PASSWORD
  # MYSQL_ALLOW_EMPTY_PASSWORD is the older name without ROOT.
  MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=${MARIADB_ALLOW_EMPTY_ROOT_PASSWORD:-${MYSQL_ALLOW_EMPTY_PASSWORD:-}}
  from_env RANDOM_ROOT_PASSWORD
  from_env ROOT_HOST %
  from_env DATABASE
  from_env USER
  from_env PASSWORD
  # The marker tells an interrupted first start from a data directory that came from elsewhere.
  if [ ! -d /var/lib/mysql/mysql ] || [ -e /var/lib/mysql/.init-incomplete ]; then init_data "$@"; fi
fi
exec "$@"
