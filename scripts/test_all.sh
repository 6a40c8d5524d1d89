#!/bin/sh
# `make test-all`: the quick tests on every interpreter from 3.11 to 3.13 that is found, each in a venv of its own.
set -eu
cd "$(dirname "$0")/.."
found=0
failed=""
for version in 3.11 3.12 3.13; do
    if ! python=$(sh scripts/find_python.sh "$version"); then
        echo "== $version: not found, left out"
        continue
    fi
    found=$((found + 1))
    echo "== $version: $python"
    QD_VENV="$PWD/.venvs/$version" make --no-print-directory PYTHON="$python" test ARGS="$*" || failed="$failed $version"
done
if [ -n "$failed" ] || [ "$found" = 0 ]; then
    echo "test-all: ${failed:+failed on$failed}${failed:-no interpreter was found}"
    exit 1
fi
echo "test-all: passed on $found interpreters"
