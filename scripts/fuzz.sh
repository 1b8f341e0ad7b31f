#!/bin/sh
# Fuzzes every target there is for the given time each; found inputs are kept by
# go test under testdata/fuzz.
set -eu
time=${1:-1m}
for package in $(go list ./...); do
    dir=$(go list -f '{{.Dir}}' "$package")
    for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go 2>/dev/null | sed 's/^func //' | sort -u); do
        echo "== $package $target"
        go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 2s "$package"
    done
done
