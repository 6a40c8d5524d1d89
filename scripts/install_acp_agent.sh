#!/bin/sh
# Installs the real ACP agent that the tests drive (tests/e2e/test_real_acp.py), pinned, into a folder
# (default .agents/, which git ignores). Needs npm; brings its own Node, since the agent wants 22 or newer.
# The agent drives the `claude` program: the bundled one of claude-agent-sdk serves, so npm's copy is left out.
set -eu
folder=${1:-$(dirname "$0")/../.agents}
agent=@agentclientprotocol/claude-agent-acp@0.100.0
node=node@22.23.3
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if [ "$(cat "$folder/installed" 2>/dev/null)" = "$agent $node" ] && [ -x "$folder/claude-agent-acp" ]; then
    exit 0
fi
npm install --prefix "$folder" --no-audit --no-fund --omit=optional --loglevel=error "$agent"
npm install --prefix "$folder" --no-audit --no-fund --loglevel=error "$node"
cat > "$folder/claude-agent-acp" <<EOF
#!/bin/sh
exec "$folder/node_modules/node/bin/node" "$folder/node_modules/@agentclientprotocol/claude-agent-acp/dist/index.js" "\$@"
EOF
chmod +x "$folder/claude-agent-acp"
echo "$agent $node" > "$folder/installed"
