#!/bin/sh
# The check fails when this script does: when a command in it fails (-e), or a
# variable has no value (-u).
set -eu
item=$1

echo "looking at $item"
test -n "$item"
