#!/bin/bash
# The official MCP Inspector (2.12.0, command line) lists and calls the tools of a real hub, over HTTP and stdio.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${QD_VENV:-$PWD/.venv}
scripts/install_node_tools.sh .node
export PYTHONPATH=$PWD/tests
exec "$venv/bin/python" -m conformance.inspector "$PWD/.node/node_modules"
