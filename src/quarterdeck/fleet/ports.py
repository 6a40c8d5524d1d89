"""What the fleet needs of a place where workspaces live: `Backend`, held to tests/contracts/test_backends.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from quarterdeck.fleet.model import AgentRecord
from quarterdeck.sidecar.spec import Address, LaunchSpec


@dataclass(frozen=True, kw_only=True)
class Provisioned:
    """A workspace that is there: where, on which branch, from which commit, and what is to be told about it."""

    workspace: str
    branch: str | None
    base_sha: str | None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What a removal left: where unsaved work went (a git ref), the branch where it was kept."""

    rescue_ref: str | None = None
    rescue_files: int = 0
    branch_kept: str | None = None
    notes: list[str] = field(default_factory=list)


class Backend(Protocol):
    """Brings workspaces up and says where their sidecars listen. Every call may be repeated after a crash."""

    name: str

    def folder(self, record: AgentRecord) -> Path:
        """The agent's own folder on this machine."""
        ...

    async def provision(self, record: AgentRecord) -> Provisioned:
        """Make the workspace, or find the one an earlier, interrupted call made.

        Raises `InvalidInput`, `NotFound` or `Unavailable` when it cannot be made; what was begun is
        finished or undone by the next `provision` or `remove`.
        """
        ...

    async def start(self, record: AgentRecord, launch: LaunchSpec) -> Address:
        """Start the sidecar and give its address, or give that of the one that runs.

        Raises `Unavailable` with the end of its log when it does not come up.
        """
        ...

    async def address(self, record: AgentRecord) -> Address | None:
        """Where the sidecar said that it listens, None when it never did or ended in good order.

        Raises a `QuarterdeckError` when what it said cannot be read.
        """
        ...

    async def gone(self, record: AgentRecord) -> str | None:
        """Why the sidecar is certainly not running; None when it runs, or nobody can know.

        Raises as `address`, which is no certainty either.
        """
        ...

    async def stop(self, record: AgentRecord, *, grace_seconds: float) -> None:
        """End the sidecar and every process of the agent, by force after the grace. Idempotent."""
        ...

    async def remove(self, record: AgentRecord) -> Removed:
        """Save unsaved work, then remove the workspace. The sidecar must be stopped. Idempotent.

        Raises `Unavailable` when unsaved work could not be saved; nothing is removed then.
        """
        ...

    async def disk_use(self, record: AgentRecord) -> int:
        """Bytes that the agent's folder and workspace take."""
        ...
