"""The remotes that a repository has, asked of git once per change of its configuration."""

from __future__ import annotations

import re
from typing import Any

from quarterdeck.metadata.collectors.gitfiles import Repository
from quarterdeck.metadata.collectors.remotes import without_credentials
from quarterdeck.metadata.model import clean_text
from quarterdeck.process import CommandFailed, run_quick

PLAIN = ("-c", "core.fsmonitor=false", "-c", "core.quotePath=false", "-c", "log.showSignature=false")
# A partial clone fetches what it lacks whenever it is looked at. Older gits do not know the variable that turns
# this off, but leave every transport alone when none is allowed.
ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C.UTF-8",
}
_LINE = re.compile(r"(\S+)\t(.+?) \((fetch|push)\)(?: \[[^\]]*\])?\Z")


def command() -> list[str]:
    """All remote addresses, as `url.*.insteadOf` makes them."""
    return ["git", *PLAIN, "remote", "--verbose"]


def parse(output: str) -> dict[str, str]:
    """Remote name to the address that is fetched from, credentials removed."""
    found: dict[str, str] = {}
    for line in output.splitlines():
        match = _LINE.match(line)
        if match and match[3] == "fetch":
            found.setdefault(match[1], clean_text(without_credentials(match[2]), 500))
    return found


class Remotes:
    """Remembers the answer until the repository's configuration changes."""

    def __init__(self) -> None:
        self._stamp: Any = None
        self._known: dict[str, str] = {}

    async def of(self, repository: Repository, timeout_seconds: float) -> dict[str, str]:
        """Name to address without credentials. Raises `CommandFailed` when git cannot be asked."""
        try:
            stat = (repository.common / "config").stat()
            stamp: Any = (repository.common, stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            stamp = None
        if stamp is None or stamp != self._stamp:
            folder = repository.top or repository.git
            done = await run_quick(command(), cwd=folder, env=ENVIRONMENT, timeout_seconds=timeout_seconds)
            if done.returncode != 0:
                raise CommandFailed(f"git does not tell the remotes: {done.err[:300]}", completed=done)
            self._known, self._stamp = parse(done.out), stamp
        return self._known
