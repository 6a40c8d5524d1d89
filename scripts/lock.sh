#!/bin/sh
# Makes the lock files anew from pyproject.toml: exact versions, hashes, no index addresses. Needs uv.
set -eu
cd "$(dirname "$0")/.."
compile() { uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header "$@"; }
compile pyproject.toml --group build -o locks/run.txt
compile pyproject.toml --group dev -o locks/dev.txt
for extra in claude codex node; do
  compile pyproject.toml --group build --extra "$extra" -c locks/dev.txt -o "locks/$extra.txt"
done
