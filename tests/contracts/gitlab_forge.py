"""A part of GitLab's REST API over the same scriptable state as the GitHub forge."""

from __future__ import annotations

import re
import socket
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from quarterdeck.scripted.forge import Forge, Pull, _json, _message
from quarterdeck.serving import run_uvicorn

_PROJECT = re.compile(r"/api/v4/projects/([^?]+)\Z")
_PATH = re.compile(r"/api/v4/projects/(.+?)/(merge_requests|pipelines)(?:/(\d+)(?:/(\w+))?)?\Z")


class GitlabForge(Forge):
    """The same state, asked the other way."""

    def _found(self, path: str, query: dict[str, str]) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        match = _PATH.match(path)
        if match is None and (project := _PROJECT.match(path)) and project[1] in self.pulls:
            return 200, _json({"id": self._project_id(project[1]), "path_with_namespace": project[1]}), []
        if match is None or match[1] not in self.pulls:
            return 404, _message("404 Project Not Found"), []
        repository, kind, number, part = match.groups()
        if number is None:
            return self._merge_requests(repository, query)
        if kind == "pipelines":
            pull = self.pulls[repository][int(number)]
            failed = [n for n, r in self.checks.get((repository, pull.sha), {}).items() if r == "failure"]
            return 200, _json([self._job(repository, name) for name in failed]), []
        pull = self.pulls[repository][int(number)]
        return 200, _json(self._part(repository, pull, part)), []

    @staticmethod
    def _project_id(path: str) -> int:
        return zlib.crc32(path.encode())

    def _part(self, repository: str, pull: Pull, part: str | None) -> Any:
        states = {"APPROVED": "approved", "CHANGES_REQUESTED": "requested_changes"}
        if part == "approvals":
            by = [{"user": {"username": r["author"]}} for r in pull.reviews if r["state"] == "APPROVED"]
            return {"approvals_required": 0, "approvals_left": 0, "approved_by": by}
        if part == "reviewers":
            return [{"user": {"username": r["author"]}, "state": states[r["state"]]} for r in pull.reviews]
        if part == "notes":
            return [
                {"id": r["id"], "author": {"username": r["author"]}, "body": r["text"], "system": False}
                for r in reversed(pull.reviews)
            ]
        return self._merge_request(repository, pull, whole=True)

    def _job(self, repository: str, name: str) -> dict[str, Any]:
        return {"name": name, "web_url": f"{self.url}/{repository}/-/jobs/1", "allow_failure": False}

    def _merge_request(self, repository: str, pull: Pull, *, whole: bool) -> dict[str, Any]:
        checks = self.checks.get((repository, pull.sha), {})
        status = "failed" if "failure" in checks.values() else "running" if None in checks.values() else "success"
        body = {
            "iid": pull.number,
            "web_url": f"{self.url}/{repository}/-/merge_requests/{pull.number}",
            "title": pull.title,
            "state": "opened" if pull.state == "open" else pull.state,
            "draft": pull.draft,
            "detailed_merge_status": "mergeable" if pull.mergeable else "conflict",
            "has_conflicts": not pull.mergeable,
            "sha": pull.sha,
            "source_branch": pull.branch,
            "source_project_id": self._project_id(f"{pull.owner}/{repository.partition('/')[2]}"),
            "target_project_id": self._project_id(repository),
            "target_branch": pull.base,
            "updated_at": pull.updated_at,
        }
        if whole and checks:
            body["head_pipeline"] = {"id": pull.number, "status": status, "web_url": f"{self.url}/p/{pull.number}"}
        return body

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
        return 200, _json([self._merge_request(repository, p, whole=False) for p in shown]), extra


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
