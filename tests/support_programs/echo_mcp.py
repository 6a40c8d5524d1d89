"""A minimal MCP server over stdio with one tool, `echo`, which also tells a variable of its environment."""

import json
import os
import sys

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}

for line in sys.stdin:
    message = json.loads(line)
    method, number = message.get("method"), message.get("id")
    if number is None:
        continue
    result: dict[str, object] = {}
    if method == "initialize":
        result = {
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "echo", "version": "1"},
        }
    elif method == "tools/list":
        result = {"tools": [{"name": "echo", "description": "Says it back", "inputSchema": SCHEMA}]}
    elif method == "tools/call":
        text = f"{message['params']['arguments'].get('text')} {os.environ.get('SECRET')}"
        result = {"content": [{"type": "text", "text": text}]}
    print(json.dumps({"jsonrpc": "2.0", "id": number, "result": result}), flush=True)
