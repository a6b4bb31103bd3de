#!/usr/bin/env bash
# The tests of the window beside all others: each half keeps one core busy, and both together take half as long.
#   scripts/run-tests.sh PYTHON
set -u
windows=$(mktemp)
trap 'rm -f "$windows"' EXIT
"$1" -m pytest tests/plugin >"$windows" 2>&1 &
"$1" -m pytest --ignore=tests/plugin
others=$?
wait $!
plugin=$?
cat "$windows"
exit $((others || plugin))
