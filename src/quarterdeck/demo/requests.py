"""The demo's pull requests: on a scripted forge on loopback, seen by the fleet, and one failing check told.

Nobody pushes in the demo: the program opens the requests on the forge, as a person would. What happens
then is the product's own doing: the agents' metadata servers see them, and the hub makes the failing
check a task of the agent whose branch it is.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from anyio.from_thread import start_blocking_portal
from rich.console import Group, RenderableType
from rich.text import Text

from quarterdeck.cli import words
from quarterdeck.cli.hubclient import HubClient
from quarterdeck.cli.prs import table_of
from quarterdeck.demo.sample import WORK
from quarterdeck.demo.truth import git
from quarterdeck.scripted.forge import Forge, scripted_forge

REPOSITORY = "demo/shop"
FAILING = "grace"
CHECK = "lint"
SEEN_SECONDS = 30.0
_POLL_SECONDS = 0.2
Json = dict[str, Any]


class DemoForge:
    """The forge, in a thread of this program, until `close`."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        portal = self._stack.enter_context(start_blocking_portal())
        self._portal = portal
        self._forge: Forge = self._stack.enter_context(portal.wrap_async_context_manager(scripted_forge()))

    @property
    def remote(self) -> str:
        """What the sample has as its remote."""
        return self._forge.remote(REPOSITORY)

    def configuration(self, token: Path) -> str:
        """The tables that let the fleet ask this forge, with a token in that file, and act on what it says."""
        token.write_text("a-token-for-the-demo", encoding="utf-8")
        token.chmod(0o600)
        host = self._forge.url.partition("://")[2]
        return (
            f'\n[metadata.github]\nhosts = ["{host}"]\napi = "{self._forge.url}"\n'
            f'token_file = "{token}"\ninterval = 1\n\n[pull_requests]\nfeedback = true\ninterval = 0.5\n'
        )

    def open_requests(self, repo: Path) -> None:
        """A request for every branch: one check passes, one fails, one runs."""
        self._portal.call(self._open, {work.agent: git(repo, "rev-parse", f"qd/{work.agent}") for work in WORK})

    def _open(self, heads: dict[str, str]) -> None:
        conclusions = {FAILING: "failure", WORK[-1].agent: None}
        for agent, sha in heads.items():
            title = words.shorten(next(w.task for w in WORK if w.agent == agent), 60)
            self._forge.open_pull(REPOSITORY, f"qd/{agent}", sha=sha, title=title)
            self._forge.check(REPOSITORY, sha, CHECK, conclusions.get(agent, "success"))

    def close(self) -> None:
        """End it."""
        self._stack.close()


def follow(client: HubClient) -> tuple[Json, Json | None]:
    """Wait until the fleet knows every request and the failing check has become a task that ended.

    What the hub lists as pull requests, and that task; None when none came in time.
    """
    end = time.monotonic() + SEEN_SECONDS
    while True:
        listed: Json = client.get("/api/pull-requests")
        tasks = client.get(f"/api/agents/{FAILING}/tasks")["tasks"]
        told = next((t for t in tasks if t["origin"].startswith("pull request")), None)
        known = {agent for request in listed["pull_requests"] for agent in request["agents"]}
        if (known == {work.agent for work in WORK} and told and told["ended_at"]) or time.monotonic() > end:
            return listed, told
        time.sleep(_POLL_SECONDS)


def problems(listed: Json, told: Json | None) -> list[str]:
    """What is not as it must be."""
    checks = {agent: request["checks"] for request in listed["pull_requests"] for agent in request["agents"]}
    wanted = {work.agent: "passing" for work in WORK} | {FAILING: "failing", WORK[-1].agent: "pending"}
    found = [] if checks == wanted else [f"the fleet knows these checks: {checks or 'none'}"]
    if told is None:
        found.append(f"the failing check of {FAILING} did not become a task")
    elif CHECK not in told["description"]:
        found.append(f"the task of {FAILING} does not name the check that fails")
    return found


def shown(listed: Json, told: Json | None, wrong: list[str]) -> RenderableType:
    """The requests as the fleet knows them, and the task that one of them became."""
    blocks: list[RenderableType] = [table_of(listed["pull_requests"])]
    if told is not None:
        line = words.shorten(told["description"], 90)
        blocks.append(
            Text.assemble("    task for ", (FAILING, "bold"), f", by itself: {line}  ", (told["state"], "green"))
        )
    blocks += [Text.assemble(("    NOT SO    ", "bold red"), problem) for problem in wrong]
    return Group(*blocks)
