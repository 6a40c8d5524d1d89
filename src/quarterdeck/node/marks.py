"""How one agent's podman commands are known again by the next one. Pure."""

from __future__ import annotations

from pathlib import Path


def changing(state_dir: Path) -> str:
    """The mark of commands that change something: the next agent waits for those that were left."""
    return f"node:{state_dir}"


def reading(state_dir: Path) -> str:
    """The mark of commands that only read, and would for ever: the next agent ends them."""
    return f"node-reading:{state_dir}"
