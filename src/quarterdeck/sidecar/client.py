"""Talking to a sidecar: the one way in which the hub and the command line reach an agent.

Everything that arrives is decoded into the types of `sidecar.model`; every foreign error becomes one of
`quarterdeck.errors`. `Unreachable` differs from an answer that says no.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Self, TypeVar
from urllib.parse import quote, unquote

import httpx2
import msgspec

from quarterdeck.errors import InvalidInput, QuarterdeckError, Unavailable, error_from_json
from quarterdeck.sidecar.model import Attention, LogPage, SidecarFacts, Task, TaskPage
from quarterdeck.sidecar.spec import Address

T = TypeVar("T")
DEADLINE_SECONDS = 5.0
_MAX_EVENT_BYTES = 16 * 1024 * 1024
# On a unix socket nothing is encrypted, so no certificate need be loaded: that takes 20 ms for each client, and
# kept a hub with a thousand agents from coming up within half a minute. This one trusts nobody.
_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@cache
def _certificates() -> ssl.SSLContext:
    """What TLS is checked against, loaded once for all clients."""
    return httpx2.create_ssl_context(trust_env=False)


def _segment(given: str) -> str:
    """A caller's text as one segment of a path, which it cannot leave. Raises `InvalidInput` for one that can."""
    quoted = quote(given, safe="")
    _refuse_steps(quoted)
    return quoted


def _as_sent(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers that somebody sent us, byte for byte: httpx2 by itself takes ASCII alone."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def _refuse_steps(path: str) -> None:
    """Raise `InvalidInput` for a path with a step up or in place: httpx2 would take it, and ask for another path.

    A slash that is encoded begins no segment, here or there: `a%2F..%2Fb` is a metadata key like others.
    """
    for segment in path.split("/"):
        plain, before = segment, ""
        while plain != before:  # however often it was encoded
            plain, before = unquote(plain), plain
        if plain in (".", ".."):
            raise InvalidInput(f"{path[:200]!r} has a step (. or ..) in it, which no path of an agent has")


def answered_error(status: int, data: bytes) -> QuarterdeckError:
    """The error in an answer; a body that is none of ours (a proxy's page, one cut off) tells only its status."""
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = None
    return error_from_json(body, status=status)


class Unreachable(Unavailable):
    """The sidecar did not answer: not there, not listening, or too slow. It says nothing of the agent."""


@dataclass(frozen=True)
class ServerEvent:
    """One server-sent event: its kind, its number (None for facts), its data still encoded."""

    kind: str
    seq: int | None
    data: bytes


class SidecarClient:
    """A client of one sidecar. Use `connect`; calls raise `Unreachable` and what the sidecar answers."""

    def __init__(self, http: httpx2.AsyncClient, name: str) -> None:
        self._http = http
        self._name = name

    @classmethod
    def connect(cls, address: Address, name: str, *, token: str | None = None) -> Self:
        """A client for the sidecar at an address (nothing is sent yet). Close it with `aclose`."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        local = address.url is None or not token
        http = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=address.socket, verify=_NO_CERTIFICATES) if local else None,
            base_url=address.url if not local and address.url else "http://localhost",
            verify=_NO_CERTIFICATES if local else _certificates(),
            headers=headers,
            timeout=httpx2.Timeout(DEADLINE_SECONDS),
            trust_env=False,
        )
        return cls(http, name)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        deadline: float = DEADLINE_SECONDS,
    ) -> bytes:
        """One call; the body of the answer. Raises `Unreachable`, or the error that was answered."""
        given = {key: value for key, value in (params or {}).items() if value is not None}
        try:
            response = await self._http.request(
                method,
                path,
                content=msgspec.json.encode(body) if body is not None else None,
                params=given,
                headers={"Content-Type": "application/json", **(headers or {})},
                timeout=deadline,
            )
        except httpx2.TimeoutException as error:
            raise Unreachable(f"agent {self._name} did not answer within {deadline:g} s") from error
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from error
        except RuntimeError as error:
            self._refuse_closed(error)
            raise
        if response.status_code >= 400:
            raise answered_error(response.status_code, response.content)
        return response.content

    def _unreachable(self, error: httpx2.HTTPError) -> Unreachable:
        return Unreachable(f"agent {self._name} cannot be reached: {_reason(error)}")

    def _refuse_closed(self, error: RuntimeError) -> None:
        """Raise `Unreachable` where the link was dropped between two steps of a caller; any other is our own fault."""
        if self._http.is_closed:
            raise Unreachable(f"the connection to agent {self._name} was just given up; ask again") from error

    async def call(self, kind: type[T], method: str, path: str, **options: Any) -> T:
        """`request`, decoded. Raises `Unreachable` also when the answer is not what was agreed."""
        data = await self.request(method, path, **options)
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError as error:
            raise Unreachable(f"agent {self._name} answered something unexpected: {error}") from error

    async def facts(self, *, deadline: float = DEADLINE_SECONDS) -> SidecarFacts:
        """`GET /v1/agent`."""
        return await self.call(SidecarFacts, "GET", "/v1/agent", deadline=deadline)

    async def add_task(
        self,
        description: str,
        *,
        queue: bool = False,
        key: str | None = None,
        origin: str = "",
        hold: bool = False,
        incarnation: int | None = None,
    ) -> Task:
        """Give a task. With a `key`, a retry gives the same task."""
        return await self.call(
            Task,
            "POST",
            "/v1/tasks",
            body={"description": description, "queue": queue, "origin": origin, "hold": hold},
            params={"incarnation": incarnation},
            headers=None if key is None else {"Idempotency-Key": key},
        )

    async def tasks(self, *, offset: int, limit: int) -> TaskPage:
        """Tasks, newest first, and the notes of their time."""
        return await self.call(TaskPage, "GET", "/v1/tasks", params={"offset": offset, "limit": limit})

    async def log(self, *, offset: int, limit: int) -> LogPage:
        """Log entries, newest first."""
        return await self.call(LogPage, "GET", "/v1/log", params={"offset": offset, "limit": limit})

    async def add_note(self, text: str, *, key: str) -> None:
        """Note what happened beside the tasks; with the same `key` again, nothing new is noted."""
        await self.request("POST", "/v1/notes", body={"key": key, "text": text})

    async def cancel(self, task_id: str, *, incarnation: int | None = None) -> Task:
        """Ask for the end of a task."""
        path = f"/v1/tasks/{_segment(task_id)}/cancel"
        return await self.call(Task, "POST", path, params={"incarnation": incarnation})

    async def withdraw(self, task_id: str, reason: str) -> Task:
        """Cancel a task that waits. Raises `Conflict` when it runs or is over, `NotFound`."""
        return await self.call(Task, "POST", f"/v1/tasks/{task_id}/withdraw", params={"reason": reason})

    async def release(self, task_id: str) -> Task:
        """Let a held task run."""
        return await self.call(Task, "POST", f"/v1/tasks/{_segment(task_id)}/release")

    async def answer(self, attention_id: str, answer: str, *, incarnation: int | None = None) -> Attention:
        """Answer what is asked."""
        return await self.call(
            Attention,
            "POST",
            f"/v1/attention/{_segment(attention_id)}",
            body={"answer": answer},
            params={"incarnation": incarnation},
        )

    async def stop(self, *, incarnation: int | None = None) -> None:
        """Ask the agent and its sidecar to end."""
        await self.request("POST", "/v1/stop", params={"incarnation": incarnation})

    async def forward(
        self, method: str, path: str, *, headers: Mapping[str, str], body: bytes, deadline: float = DEADLINE_SECONDS
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Hand a request on as it is: status, headers (names in lower case) and body.

        Raises `Unreachable`, `InvalidInput` for a path with steps in it.
        """
        _refuse_steps(path.partition("?")[0])
        try:
            response = await self._http.request(
                method, path, content=body or None, headers=_as_sent(headers), timeout=deadline
            )
        except httpx2.TimeoutException as error:
            raise Unreachable(f"agent {self._name} did not answer within {deadline:g} s") from error
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from error
        except RuntimeError as error:
            self._refuse_closed(error)
            raise
        return response.status_code, {k.lower(): v for k, v in response.headers.items()}, response.content

    async def forward_stream(self, path: str, *, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Hand a stream on, chunk by chunk. Raises as `forward`, or the error that was answered instead."""
        _refuse_steps(path.partition("?")[0])
        timeout = httpx2.Timeout(DEADLINE_SECONDS, read=None)
        try:
            async with self._http.stream("GET", path, headers=_as_sent(headers), timeout=timeout) as response:
                if response.status_code != 200:
                    raise answered_error(response.status_code, await response.aread())
                async for chunk in response.aiter_raw():
                    yield chunk
        except httpx2.HTTPError as error:
            raise Unreachable(f"the connection to agent {self._name} broke: {_reason(error)}") from error
        except RuntimeError as error:
            self._refuse_closed(error)
            raise

    @asynccontextmanager
    async def events(
        self, *, after: int = 0, facts: bool = False, silence_seconds: float = 10
    ) -> AsyncIterator[AsyncIterator[ServerEvent]]:
        """The stream of events. Its iteration raises `Unreachable` when the connection breaks or goes silent."""
        timeout = httpx2.Timeout(DEADLINE_SECONDS, read=silence_seconds)
        try:
            async with self._http.stream(
                "GET", "/v1/events", params={"after": after, "facts": facts}, timeout=timeout
            ) as response:
                if response.status_code != 200:
                    raise Unreachable(f"agent {self._name} answered HTTP {response.status_code} to a watch")
                yield self._parse(response)
        except httpx2.TimeoutException as error:
            raise Unreachable(f"agent {self._name} has been silent for {silence_seconds:g} s") from error
        except httpx2.HTTPError as error:
            raise Unreachable(f"the connection to agent {self._name} broke: {_reason(error)}") from error
        except RuntimeError as error:
            self._refuse_closed(error)
            raise

    async def _parse(self, response: httpx2.Response) -> AsyncIterator[ServerEvent]:
        buffer = b""
        async for chunk in response.aiter_raw():
            buffer += chunk
            if len(buffer) > _MAX_EVENT_BYTES:
                raise Unreachable(f"agent {self._name} sent an event of more than {_MAX_EVENT_BYTES} bytes")
            *frames, buffer = buffer.split(b"\n\n")
            for frame in frames:
                event = _event(frame)
                if event is not None:
                    yield event
        raise Unreachable(f"agent {self._name} closed the connection")


def _reason(error: Exception) -> str:
    """What went wrong; many errors of a connection that breaks have a name and no words."""
    return str(error) or type(error).__name__


def _event(frame: bytes) -> ServerEvent | None:
    fields: dict[str, bytes] = {}
    for line in frame.split(b"\n"):
        name, _, value = line.partition(b":")
        if name:
            fields[name.decode()] = value.removeprefix(b" ")
    if "data" not in fields:
        return None
    seq = fields.get("id")
    return ServerEvent(fields.get("event", b"message").decode(), int(seq) if seq else None, fields["data"])


def clock_skew(facts: SidecarFacts, asked_at: float, answered_at: float | None = None) -> float:
    """Seconds by which the sidecar's clock is ahead of ours, as far as the call's own time lets us know."""
    answered_at = time.time() if answered_at is None else answered_at
    if asked_at <= facts.observed_at <= answered_at:
        return 0.0
    return facts.observed_at - (answered_at if facts.observed_at > answered_at else asked_at)
