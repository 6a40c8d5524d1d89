#!/bin/sh
# Installs Node 22 and the official MCP tools, pinned, into a folder (default .node/, which git ignores). Needs npm.
set -eu
folder=${1:-$(dirname "$0")/../.node}
wanted="node@22.23.3 @modelcontextprotocol/conformance@0.1.16 @modelcontextprotocol/inspector@2.12.0"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if [ "$(cat "$folder/installed" 2>/dev/null)" = "$wanted" ] && [ -x "$folder/node_modules/node/bin/node" ]; then
    exit 0
fi
command -v npm >/dev/null || { echo "npm is missing; on Debian: apt-get install npm" >&2; exit 1; }
rm -f "$folder/installed"
# The browsers and compilers that some of their dependencies would fetch are not needed here.
# shellcheck disable=SC2086 # a list of packages
npm install --prefix "$folder" --no-audit --no-fund --loglevel=error $wanted
echo "$wanted" >"$folder/installed"
