"""What the github and the gitlab collector have in common: which request is this branch's, and how old is that."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from quarterdeck import config
from quarterdeck.config import ForgeTable
from quarterdeck.metadata.collector import DEADLINE_SECONDS, Known, Trigger
from quarterdeck.metadata.collectors import gitfiles, remotes
from quarterdeck.metadata.collectors.forge import (
    FRESH_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Document,
    Forge,
    read_token,
)
from quarterdeck.metadata.collectors.gitremotes import Remotes
from quarterdeck.metadata.collectors.pull_request import KEYS, PullRequest, facts, no_request
from quarterdeck.metadata.collectors.remotes import Remote
from quarterdeck.metadata.model import Schema

_API_PATH = re.compile(r"/api/v\d+/?\Z")


@dataclass(frozen=True)
class Target:
    """A branch that may have a request: in which repository that would be, and from whose it would come."""

    repository: Remote
    source: Remote
    branch: str


class Seen:
    """Collects the documents that an answer is made of: the oldest one's moment, the first that is to be asked for
    anew, and the first error count. `max_age` is how old a document may become before that.
    """

    def __init__(self, max_age: float) -> None:
        self.at = time.time()
        self.until = float("inf")
        self.error: str | None = None
        self._max_age = max_age

    @property
    def good_for(self) -> float:
        """How old the oldest one may become before any is asked for anew."""
        return max(0.0, self.until - self.at) if self.until < float("inf") else self._max_age

    def take(self, document: Document, times: int = 1) -> Any:
        """The document's data; `times`: how often the usual age it may have."""
        self.at = min(self.at, document.fetched_at)
        self.until = min(self.until, document.fetched_at + times * self._max_age)
        self.error = self.error or document.error
        return document.data


def _below(host: str, api: str | None) -> str:
    """The path below which a forge has everything, as its API's address tells; empty where it has the host for itself
    or the API a host of its own.
    """
    parts = urlsplit(api or "")
    found = _API_PATH.search(parts.path)
    return parts.path[: found.start()] if found and parts.netloc.lower() == host else ""


class ForgeCollector(ABC):
    """The pull or merge request of the checked-out branch."""

    name: str
    deadline = DEADLINE_SECONDS
    trigger: Trigger = "head"
    keys: Mapping[str, Schema] = KEYS
    public_host: str

    def __init__(self, table: ForgeTable) -> None:
        self._table = table
        self.max_age = table.interval
        self._own_hosts = frozenset(host.lower() for host in table.hosts)
        self._below = {host: path for host in self._own_hosts if (path := _below(host, table.api))}
        self._remotes = Remotes()
        self._forges: dict[str, Forge] = {}
        self._unfinished: float | None = None
        self._told: Target | None = None
        self._asked: Target | None = None

    def moved(self) -> bool:
        """Whether the facts told last are of another branch or repository than the one that is there now."""
        return self._told != self._asked

    async def aclose(self) -> None:
        """Close the connections."""
        for forge in self._forges.values():
            await forge.aclose()
        self._forges.clear()

    async def collect(self, workspace: Path) -> Mapping[str, Any]:
        """The facts of the branch's request. Raises `Unavailable` when nothing is known and cannot be asked."""
        return await self._collected(workspace, None)

    async def collect_fresh(self, workspace: Path) -> Mapping[str, Any]:
        """The same, asked for now."""
        return await self._collected(workspace, FRESH_SECONDS)

    async def _collected(self, workspace: Path, max_age: float | None) -> Mapping[str, Any]:
        self._asked = target = await self._target(workspace)
        if target is None:
            self._told = None
            return {}
        forge = await self._forge(target.repository.host)
        # A little less than the interval, so that an answer asked for in step is not just young enough.
        age = forge.interval * 0.8 if max_age is None else max_age
        now = time.time()
        # What a round got before its deadline ended it counts for the next, or a slow forge would be asked for the
        # same first pages for ever. Not for long: else the facts would be of a state that never was.
        if self._unfinished is None or now - self._unfinished > LONGEST_PAUSE_SECONDS:
            self._unfinished = now
        elif max_age is None:
            # The age is looked at a moment from now.
            age = max(age, now - self._unfinished + FRESH_SECONDS)
        seen = Seen(max(age, forge.interval * 0.8))
        try:
            found = await self._request(forge, target, seen, age)
        except Exception:
            self._unfinished = None
            raise
        self._unfinished, self._told = None, target
        values = no_request() if found is None else facts(found)
        return {key: Known(value, seen.error, seen.at, seen.good_for) for key, value in values.items()}

    async def _target(self, workspace: Path) -> Target | None:
        repository = gitfiles.find(workspace)
        if repository is None or repository.top is None:
            return None
        head = gitfiles.head(repository)
        begun = gitfiles.under_way(repository.git)
        branch = (head.branch if head else None) or (begun[1] if begun else None)
        if branch is None:
            return None
        known = await self._remotes.of(repository, self.deadline)
        source = remotes.parse(known.get("origin", ""), self._below)
        # A fork's requests are in the repository that it was forked from, usually called upstream.
        home = remotes.parse(known.get("upstream", ""), self._below) or source
        if source is None or home is None or home.host not in {self.public_host, *self._own_hosts}:
            return None
        return Target(home, source if source.host == home.host else home, branch)

    async def _forge(self, host: str) -> Forge:
        configured = self._is_configured(host)
        file = self._table.token_file if configured else None
        variables = self._variables(host, configured)
        # Read again each time: a file with a token that runs out is written anew by whoever renews it.
        token = read_token(file, variables)
        forge = self._forges.get(host)
        if forge is None or forge.token != token:
            if forge is not None:
                await forge.aclose()
            api = (self._table.api if configured else None) or self._api(host)
            place = file or " or ".join(variables) or "the configuration"
            what = f"{self.name} ({host})"
            self._forges[host] = forge = Forge(api, token, place, self._table.interval, self._headers(), what)
        return forge

    def _is_configured(self, host: str) -> bool:
        """Whether `api` and the token of the configuration are this host's: they are those of `hosts`, and of the
        public host only where there are no others. So no host gets what is another's.
        """
        return host in (self._own_hosts or {self.public_host})

    def _variables(self, host: str, configured: bool) -> tuple[str, ...]:
        if configured and self._table.token_env is not None:
            return tuple(self._table.token_env)
        return config.FORGE_VARIABLES[self.name] if host == self.public_host else ()

    @abstractmethod
    def _api(self, host: str) -> str:
        """The address of a host's API."""

    @abstractmethod
    def _headers(self) -> Mapping[str, str]:
        """What every request carries."""

    @abstractmethod
    async def _request(self, forge: Forge, target: Target, seen: Seen, max_age: float) -> PullRequest | None:
        """The branch's request; None when it has none."""
