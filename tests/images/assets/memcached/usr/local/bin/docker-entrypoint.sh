#!/bin/sh
# Options alone mean "memcached OPTIONS".
set -e
case "${1:-}" in
-*) set -- memcached "$@" ;;
esac
exec "$@"
