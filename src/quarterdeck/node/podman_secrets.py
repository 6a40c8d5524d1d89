"""Gives a secret another value, whichever podman it is: from 4.7 on in one step, before that in the safest order."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from quarterdeck.errors import QuarterdeckError

# Makes a secret; told to replace, it takes the place of the one of that name (where podman can).
Create = Callable[[str, bool], Awaitable[None]]
TRIAL = "qd-trial-"


def trial_mark(state_dir: Path) -> str:
    """How the trials of this agent begin: what another one of this machine tries out now is not its own to remove."""
    return f"{TRIAL}{hashlib.sha256(str(state_dir).encode()).hexdigest()[:12]}-"


async def put(name: str, *, there: bool, mark: str, create: Create, remove: Callable[[str], Awaitable[None]]) -> None:
    """Create the secret, or replace the one that is `there`. Raises what `create` raises; the old one stays then."""
    if not there:
        await create(name, False)
        return
    with suppress(QuarterdeckError):
        await create(name, True)
        return
    # An older podman can only remove and create: first see that it takes the value at all.
    trial = mark + secrets.token_hex(8)
    await create(trial, False)
    try:
        await remove(name)
        await create(name, False)
    finally:
        await remove(trial)
