#!/bin/sh
# Runs haproxy in master-worker mode in the foreground; options alone mean "haproxy OPTIONS".
set -e
case "${1:-}" in
-*) set -- haproxy "$@" ;;
esac
if [ "${1:-}" = haproxy ]; then
  shift
  set -- haproxy -W -db "$@"
fi
exec "$@"
