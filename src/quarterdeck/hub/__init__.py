"""The hub: the server that people, MCP clients and the dashboard talk to. It keeps no state of its own."""
