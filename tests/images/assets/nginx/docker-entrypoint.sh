#!/bin/sh
# Runs what lies in /docker-entrypoint.d (*.envsh is sourced, *.sh is run), then the command.
set -e
say() { [ -n "${NGINX_ENTRYPOINT_QUIET_LOGS:-}" ] || echo "$0: $*"; }
case "${1:-}" in
nginx | nginx-debug)
  for f in $(find /docker-entrypoint.d/ -follow -type f -name '*sh' | sort -V); do
    case "$f" in
    *.envsh) say "sourcing $f"; . "$f" ;;
    *.sh) if [ -x "$f" ]; then say "running $f"; "$f"; else say "ignoring $f: not executable"; fi ;;
    esac
  done
  ;;
esac
exec "$@"
