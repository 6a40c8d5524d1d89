"""A part of GitLab's REST API over the same scriptable state as the GitHub forge."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import gitlab_payloads as payloads

from quarterdeck.scripted.forge import Forge, Pull, _json, _message
from quarterdeck.serving import run_uvicorn

_PROJECT = re.compile(r"/api/v4/projects/([^?]+)\Z")
_PATH = re.compile(r"/api/v4/projects/(.+?)/(merge_requests|pipelines)(?:/(\d+)(?:/(\w+))?)?\Z")


class GitlabForge(Forge):
    """The same state, asked the other way. `pipelines` has those that are not of their request's newest commit:
    request to (commit, ref). `notes` are people's comments and GitLab's own, oldest first.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.pipelines: dict[int, tuple[str, str]] = {}
        self.notes: dict[int, list[dict[str, Any]]] = {}

    def say(self, repository: str, number: int, author: str, text: str, *, system: bool = False, at: str = "") -> None:
        """A note on a request; `at` when, as `2026-01-01T00:00:00.000Z`."""
        notes = self.notes.setdefault(number, [])
        place = None if "::" not in text else text.partition("::")[0]
        notes.append({"id": number * 1000 + len(notes), "author": author, "text": text.partition("::")[2] or text,
                      "system": system, "at": at or payloads.SINCE, "place": place})  # fmt: skip
        self.pulls[repository][number].touch()

    def review(self, repository: str, number: int, author: str, state: str, text: str = "", **options: Any) -> None:
        """A reviewer's state, the note that comes with it, and the one that GitLab writes about it."""
        super().review(repository, number, author, state, text, **options)
        pull = self.pulls[repository][number]
        pull.reviews[:] = [r for r in pull.reviews[:-1] if r["author"] != author] + pull.reviews[-1:]
        if text:
            self.say(repository, number, author, text)
        if state == "CHANGES_REQUESTED":
            self.say(repository, number, author, "requested changes", system=True)

    def _found(self, path: str, query: dict[str, str]) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        match = _PATH.match(path)
        if match is None and (project := _PROJECT.match(path)) and project[1] in self.pulls:
            return 200, _json(payloads.project(self.url, project[1])), []
        if match is not None and match[2] == "pipelines" and match[1].isdigit():
            return self._jobs(int(match[1]), int(match[3]))
        if match is None or match[1] not in self.pulls:
            return 404, _message("404 Project Not Found"), []
        repository, _, number, part = match.groups()
        if number is None:
            return self._merge_requests(repository, query)
        pull = self.pulls[repository][int(number)]
        if part == "notes":
            quoted = path.replace(repository, repository.replace("/", "%2F"), 1)
            shown, extra = self._page(quoted, list(reversed(self.notes.get(pull.number, []))), query)
            return 200, _json([payloads.note(self.url, repository, pull, note) for note in shown]), extra
        return 200, _json(self._part(repository, pull, part)), []

    def _jobs(self, project: int, number: int) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        """The failed jobs of a pipeline, which has its request's number, in the project in which it runs."""
        for repository, pulls in self.pulls.items():
            pull = pulls.get(number)
            if pull is not None and project == payloads.source_project(repository, pull):
                checks = self._checks(repository, pull)
                failed = [name for name, result in checks.items() if result == "failure"]
                return 200, _json([payloads.job(self.url, repository, pull, name, checks) for name in failed]), []
        return 404, _message("404 Not found"), []

    def _checks(self, repository: str, pull: Pull) -> dict[str, str | None]:
        sha, _ = self.pipelines.get(pull.number, (pull.sha, ""))
        return self.checks.get((repository, sha), {})

    def _part(self, repository: str, pull: Pull, part: str | None) -> Any:
        if part == "approvals":
            return payloads.approvals(self.url, repository, pull)
        if part == "reviewers":
            return [payloads.reviewer(self.url, review) for review in pull.reviews]
        of = self.pipelines.get(pull.number)
        return payloads.whole_merge_request(self.url, repository, pull, self._checks(repository, pull), of)

    def _merge_requests(self, repository: str, query: dict[str, str]) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        found = [
            pull
            for pull in sorted(self.pulls[repository].values(), key=lambda p: p.number, reverse=True)
            if query.get("state") == "all" or pull.state == "open"
            if query.get("source_branch") in (None, pull.branch)
        ]
        size, page = min(int(query["per_page"]), self._page_size), int(query.get("page", "1"))
        shown = found[(page - 1) * size : page * size]
        extra = []
        if len(found) > page * size:
            rest = "&".join(f"{k}={v}" for k, v in {**query, "page": str(page + 1)}.items())
            address = f"{self.url}/api/v4/projects/{repository.replace('/', '%2F')}/merge_requests?{rest}"
            extra = [(b"link", f'<{address}>; rel="next"'.encode())]
        return 200, _json([payloads.merge_request(self.url, repository, pull) for pull in shown]), extra


@asynccontextmanager
async def scripted_gitlab(*, token: str | None = None, page_size: int = 100) -> AsyncIterator[GitlabForge]:
    """A GitLab that listens on loopback until the block ends."""
    forge = GitlabForge(token=token, page_size=page_size)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.setblocking(False)
        forge.url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        async with anyio.create_task_group() as group:
            await group.start(run_uvicorn, forge, bound)
            yield forge
            forge._cured.set()
            group.cancel_scope.cancel()
