"""The command line: parses, calls the hub or a node, renders. Nothing heavy is imported at start."""
