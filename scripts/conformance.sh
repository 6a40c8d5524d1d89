#!/bin/bash
# The official MCP conformance runner (0.1.16) against the hub's own application. What is expected to fail is in
# tests/conformance/baseline.yml, with its reason; anything else that fails, or that passes by now, is an error.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${QD_VENV:-$PWD/.venv}
scripts/install_node_tools.sh .node
results=$(mktemp -d)
# Its standard input is ours to close: then it ends by itself.
coproc SERVER { cd tests && PYTHONPATH=$PWD exec "$venv/bin/python" -m conformance.server 2>"$results/server.log"; }
server=$SERVER_PID
trap 'kill "$server" 2>/dev/null || true; rm -rf "$results"' EXIT
if ! IFS= read -r -t 60 -u "${SERVER[0]}" url; then
    echo "conformance: the hub did not come up" >&2
    cat "$results/server.log" >&2
    exit 1
fi
code=0
.node/node_modules/node/bin/node .node/node_modules/.bin/conformance server --url "$url" --suite "${SUITE:-active}" \
    --expected-failures tests/conformance/baseline.yml --output-dir "$results/out" "$@" || code=$?
if [ "$code" != 0 ]; then
    echo "conformance: what the hub said:" >&2
    tail -40 "$results/server.log" >&2
fi
exit "$code"
