#!/bin/sh
# Serves the registry with the given configuration file; other words are a registry command.
set -e
case "${1:-}" in
*.yml | *.yaml) set -- registry serve "$@" ;;
serve | garbage-collect | help | -*) set -- registry "$@" ;;
esac
exec "$@"
