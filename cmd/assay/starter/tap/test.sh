#!/bin/sh
# Prints TAP, the Test Anything Protocol: a plan, then a line for each test.
# prove(1) and many test harnesses print it, too.
set -u
item=$1
number=0

# try NAME COMMAND... is one test.
try() {
    number=$((number + 1))
    name=$1
    shift
    if "$@" >&2; then
        echo "ok $number - $name"
    else
        echo "not ok $number - $name"
    fi
}

echo "1..2"
try "there is something to look at" test -n "$item"
try "numbers add up" test $((1 + 1)) -eq 2
