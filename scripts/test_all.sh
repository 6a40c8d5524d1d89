#!/bin/sh
# `make test-all`: the quick tests on every interpreter from 3.11 to 3.13 that is found, each in a venv of its own.
# VERSIONS="3.12 3.13" names the ones that are meant.
set -eu
cd "$(dirname "$0")/.."
found=0
failed=""
for version in ${VERSIONS:-3.11 3.12 3.13}; do
    # A name on PATH, else what pyenv has; a pyenv shim may be there without its interpreter.
    python=""
    for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python3; do
        if "$candidate" -c "import sys, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    if [ -z "$python" ]; then
        echo "== $version: not found, left out"
        continue
    fi
    found=$((found + 1))
    echo "== $version: $python"
    QD_VENV="$PWD/.venvs/$version" make --no-print-directory PYTHON="$python" test ARGS="$*" || failed="$failed $version"
done
if [ -n "$failed" ]; then
    echo "test-all: failed on$failed"
    exit 1
fi
echo "test-all: passed on $found interpreters"
