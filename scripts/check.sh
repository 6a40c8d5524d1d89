#!/bin/sh
# `make check`: every check in order, one line each while all is well, the whole output of the first that fails.
set -eu
cd "$(dirname "$0")/.."
: "${PY:=.venv/bin/python}" "${WORKERS:=3}"
output=$(mktemp)
trap 'rm -f "$output"' EXIT
began=$(date +%s)

step() {
    name=$1
    shift
    printf '%-14s ' "$name"
    from=$(date +%s)
    if "$@" >"$output" 2>&1; then
        echo "ok  $(($(date +%s) - from)) s"
    else
        code=$?
        echo "FAILED ($code): $*"
        cat "$output"
        exit "$code"
    fi
}

step format "$PY" -m ruff format --check -q .
step lint "$PY" -m ruff check -q .
step types "$PY" -m mypy
step "import rules" "$(dirname "$PY")/lint-imports" --no-cache
"$PY" scripts/long_files.py
echo "tests          (quick ones; make slow and make fault have the others)"
"$PY" -m pytest -q -p no:cacheprovider -n "$WORKERS" --dist worksteal -m "not slow and not fault" tests
echo "check: all is well, $(($(date +%s) - began)) s"
