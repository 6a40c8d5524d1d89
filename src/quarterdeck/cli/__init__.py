"""The command line `qd`: thin; it parses, calls the hub, and renders. Nothing heavy is imported at its start."""
