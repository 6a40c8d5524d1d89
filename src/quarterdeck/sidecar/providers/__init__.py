"""The providers: one file each, imported only when an agent of that kind starts."""

from __future__ import annotations

from quarterdeck.errors import InvalidInput
from quarterdeck.sidecar.ports import Provider


def make_provider(kind: str) -> Provider:
    """A fresh provider of this kind (`config.ProviderKind`); its heavy imports happen at its `start`.

    Raises `InvalidInput` for a kind that does not exist.
    """
    if kind == "acp":
        from quarterdeck.sidecar.providers.acp import AcpProvider

        return AcpProvider()
    if kind == "claude-code":
        from quarterdeck.sidecar.providers.claude_code import ClaudeCodeProvider

        return ClaudeCodeProvider()
    if kind != "command":
        raise InvalidInput(f"there is no kind of provider {kind!r}", hint="acp, claude-code or command")
    from quarterdeck.sidecar.providers.command import CommandProvider

    return CommandProvider()
