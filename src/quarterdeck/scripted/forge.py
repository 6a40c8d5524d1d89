"""A small forge on loopback that speaks a part of GitHub's REST API: for the demo and for tests.

A program opens pull requests on it, lets checks fail, reviews, and can have it refuse, hang or break:

    async with scripted_forge() as forge:
        forge.open_pull("acme/shop", "qd/alice", sha="...")
        forge.check("acme/shop", "...", "unit tests", "failure")

Answers carry entity tags and quota headers; `forge.requests` remembers what was asked.
"""

from __future__ import annotations

import hashlib
import re
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl, unquote

import anyio
import msgspec
from starlette.types import Receive, Scope, Send

from quarterdeck.scripted import forge_payloads as payloads

Fault = Literal["none", "unauthorized", "rate_limit", "not_found", "error", "cut", "slow", "garbage"]
_PULLS = re.compile(r"/repos/([^/]+/[^/]+)/pulls(?:/(\d+)(/reviews(?:/(\d+)/comments)?)?)?\Z")
_COMMIT = re.compile(r"/repos/([^/]+/[^/]+)/commits/([0-9a-f]+)/(check-runs|status)\Z")
SLOW_SECONDS = 30.0
Item = TypeVar("Item")


@dataclass
class Pull:
    """One pull request."""

    number: int
    branch: str
    sha: str
    title: str
    owner: str
    author: str = "agent"
    base: str = "main"
    state: Literal["open", "closed", "merged"] = "open"
    draft: bool = False
    mergeable: bool | None = True
    requested: list[str] = field(default_factory=list)
    updated_at: str = payloads.SINCE
    reviews: list[dict[str, Any]] = field(default_factory=list)

    def touch(self) -> None:
        """It changed now."""
        self.updated_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Asked:
    """One request that was answered."""

    path: str
    status: int
    conditional: bool
    authorized: bool


class Forge:
    """The forge's state and its ASGI application. `token`: callers must show it."""

    def __init__(self, *, token: str | None = None, page_size: int = 100) -> None:
        self.url = ""
        self.fault: Fault = "none"
        self.slow_at = ""  # what is in the addresses that are slow; how many of them wait now
        self.waiting = 0
        self.retry_after: int | None = None
        self.limit = 5000
        self.used = 0
        self.requests: list[Asked] = []
        self.pulls: dict[str, dict[int, Pull]] = {}
        self.checks: dict[tuple[str, str], dict[str, str | None]] = {}
        self.statuses: dict[tuple[str, str], dict[str, str]] = {}
        self._token = token
        self._page_size = page_size
        self._cured = anyio.Event()
        self._reset = int(time.time()) + 3600

    def remote(self, repository: str) -> str:
        """The address that a clone of a repository here has as its remote."""
        return f"{self.url}/{repository}.git"

    def open_pull(self, repository: str, branch: str, *, sha: str, title: str = "", owner: str | None = None) -> Pull:
        """Open a pull request for a branch."""
        self.pulls.setdefault(repository, {})
        number = 1 + max((n for pulls in self.pulls.values() for n in pulls), default=0)
        pull = Pull(number, branch, sha, title or branch, owner or repository.partition("/")[0])
        pull.touch()
        self.pulls[repository][number] = pull
        return pull

    def check(self, repository: str, sha: str, name: str, conclusion: str | None) -> None:
        """Set a check of a commit: success, failure, ...; None: it runs."""
        self.checks.setdefault((repository, sha), {})[name] = conclusion

    def status(self, repository: str, sha: str, context: str, state: str) -> None:
        """Set a commit status, the older kind of check: success, pending, failure or error."""
        self.statuses.setdefault((repository, sha), {})[context] = state

    def review(
        self,
        repository: str,
        number: int,
        author: str,
        state: str,
        text: str = "",
        *,
        association: str = "MEMBER",
        comments: Sequence[tuple[str, int | None, str]] = (),
    ) -> None:
        """Review a request: APPROVED, CHANGES_REQUESTED, COMMENTED or DISMISSED. `comments` on its changes: path, line
        (None: the line is no longer among the changes) and text.
        """
        pull = self.pulls[repository][number]
        facts = {"id": number * 1000 + len(pull.reviews), "author": author, "state": state, "text": text}
        pull.reviews.append({**facts, "sha": pull.sha, "association": association, "comments": list(comments)})
        pull.touch()

    def close(self, repository: str, number: int, *, merged: bool = False) -> None:
        """Close or merge a request."""
        pull = self.pulls[repository][number]
        pull.state = "merged" if merged else "closed"
        pull.touch()

    # ---------------------------------------------------------------- answering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        raw_path = scope.get("raw_path", scope["path"].encode()).decode()
        query = scope["query_string"].decode()
        status, body, extra = await self._answer(unquote(raw_path), query, headers)
        tag = b'W/"' + hashlib.sha256(body).hexdigest()[:16].encode() + b'"'
        if status == 200 and self.fault != "cut" and headers.get(b"if-none-match") == tag:
            status, body = 304, b""
        elif self._token is None or self._authorized(headers):
            self.used += 1
        asked = f"{raw_path}?{query}" if query else raw_path
        self.requests.append(Asked(asked, status, b"if-none-match" in headers, b"authorization" in headers))
        left = 0 if self.fault == "rate_limit" and self.retry_after is None else max(0, self.limit - self.used)
        answer_headers = [
            (b"content-type", b"application/json; charset=utf-8"),
            (b"etag", tag),
            (b"x-ratelimit-limit", b"%d" % self.limit),
            (b"x-ratelimit-remaining", b"%d" % left),
            (b"x-ratelimit-reset", b"%d" % self._reset),
            *extra,
        ]
        if self.fault == "cut":
            answer_headers.append((b"content-length", b"%d" % (len(body) + 1000)))
            await send({"type": "http.response.start", "status": status, "headers": answer_headers})
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": False})
            return
        answer_headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": answer_headers})
        await send({"type": "http.response.body", "body": body})

    def _authorized(self, headers: dict[bytes, bytes]) -> bool:
        return headers.get(b"authorization") == f"Bearer {self._token}".encode()

    async def _answer(
        self, path: str, query: str, headers: dict[bytes, bytes]
    ) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        if self.fault == "slow" and self.slow_at in f"{path}?{query}":  # until the forge ends, at most
            self.waiting += 1
            with anyio.move_on_after(SLOW_SECONDS):
                await self._cured.wait()
            self.waiting -= 1
        if self.fault == "error":
            return 500, _message("Server Error"), []
        if self.fault == "rate_limit":
            extra = [] if self.retry_after is None else [(b"retry-after", b"%d" % self.retry_after)]
            return 403, _message("API rate limit exceeded"), extra
        if self.fault == "garbage":
            return 200, b"<html>maintenance</html>", []
        if self.fault == "unauthorized" or (self._token is not None and not self._authorized(headers)):
            return 401, _message("Bad credentials"), []
        if self.fault == "not_found":
            return 404, _message("Not Found"), []
        return self._found(path, dict(parse_qsl(query)))

    def _found(self, path: str, query: dict[str, str]) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        if match := _PULLS.match(path):
            repository, number = match[1], match[2]
            known = self.pulls.get(repository)
            if known is None:
                return 404, _message("Not Found"), []
            if number is None:
                return self._listing(path, repository, query)
            pull = known.get(int(number))
            if pull is None:
                return 404, _message("Not Found"), []
            if match[4]:
                review = next((r for r in pull.reviews if r["id"] == int(match[4])), None)
                if review is None:
                    return 404, _message("Not Found"), []
                some, extra = self._page(path, list(enumerate(review["comments"], 1)), query)
                written = [payloads.review_comment(self.url, repository, pull.number, review, *item) for item in some]
                return 200, _json(written), extra
            if match[3]:
                reviews, extra = self._page(path, pull.reviews, query)
                return 200, _json([payloads.review(self.url, repository, pull.number, r) for r in reviews]), extra
            return 200, _json(payloads.pull(self.url, repository, asdict(pull), whole=True)), []
        if match := _COMMIT.match(path):
            repository, sha = match[1], match[2]
            if match[3] == "status":
                found = self.statuses.get((repository, sha), {})
                shown, extra = self._page(path, list(found.items()), query)
                return 200, _json(payloads.combined_status(self.url, repository, sha, found, dict(shown))), extra
            checks = list(enumerate(self.checks.get((repository, sha), {}).items(), 1))
            some, extra = self._page(path, checks, query)
            runs = [payloads.check_run(self.url, repository, sha, i, name, result) for i, (name, result) in some]
            return 200, _json({"total_count": len(checks), "check_runs": runs}), extra
        return 404, _message("Not Found"), []

    def _page(
        self, path: str, items: list[Item], query: dict[str, str]
    ) -> tuple[list[Item], list[tuple[bytes, bytes]]]:
        """The page that is asked for, and the header that names the next."""
        size = min(int(query.get("per_page", "30")), self._page_size)
        page = int(query.get("page", "1"))
        extra = []
        if len(items) > page * size:
            rest = "&".join(f"{k}={v}" for k, v in {**query, "page": str(page + 1)}.items())
            extra = [(b"link", f'<{self.url}{path}?{rest}>; rel="next"'.encode())]
        return items[(page - 1) * size : page * size], extra

    def _listing(
        self, path: str, repository: str, query: dict[str, str]
    ) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        state = query.get("state", "open")
        pulls = [
            pull
            for pull in sorted(self.pulls[repository].values(), key=lambda p: (p.updated_at, p.number), reverse=True)
            if state == "all" or (pull.state == "open") == (state == "open")
            if query.get("head") in (None, f"{pull.owner}:{pull.branch}")
        ]
        shown, extra = self._page(path, pulls, query)
        return 200, _json([payloads.pull(self.url, repository, asdict(p), whole=False) for p in shown]), extra


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _message(text: str) -> bytes:
    return _json({"message": text, "documentation_url": "https://docs.example.invalid"})


@asynccontextmanager
async def scripted_forge(*, token: str | None = None, page_size: int = 100, port: int = 0) -> AsyncIterator[Forge]:
    """A forge that listens on loopback until the block ends."""
    from quarterdeck.serving import run_uvicorn

    forge = Forge(token=token, page_size=page_size)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", port))
        bound.setblocking(False)
        forge.url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        async with anyio.create_task_group() as group:
            await group.start(run_uvicorn, forge, bound)
            yield forge
            forge._cured.set()
            group.cancel_scope.cancel()
