"""Checks of how the repository is built: imports, files, locks, tests."""
