#!/bin/sh
# Runs redis-server as the redis user; options alone mean "redis-server OPTIONS".
set -e
case "${1:-}" in
-* | *.conf) set -- redis-server "$@" ;;
esac
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
  find . \! -user redis -exec chown redis '{}' +
  exec gosu redis "$0" "$@"
fi
# A container is reached from other containers: without a password, and with
# nothing else said, protected mode would refuse them.
if [ "$1" = redis-server ]; then
  case " $* " in
  *" --protected-mode "* | *.conf\ *) ;;
  *) set -- "$@" --protected-mode no ;;
  esac
fi
exec "$@"
