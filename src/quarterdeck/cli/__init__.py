"""The command `qd`: thin; parses, calls, renders."""
