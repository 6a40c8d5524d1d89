"""Where workspaces live, one adapter each."""
