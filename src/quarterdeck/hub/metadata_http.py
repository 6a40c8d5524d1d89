"""`/api/agents/{name}/metadata...`: the calls of the agent's own metadata server, handed on as they are.

Statuses, ETags and preconditions are the metadata server's (docs/metadata.md); the hub adds only that the
agent is looked up, and that one which cannot be asked is told as such.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import unquote

from starlette.responses import Response, StreamingResponse

from quarterdeck import web
from quarterdeck.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    PreconditionFailed,
    StorageRefused,
    TooLarge,
    Unavailable,
    Unprocessable,
)
from quarterdeck.fleet.service import Fleet
from quarterdeck.metadata.model import WriteBody, WriteManyBody
from quarterdeck.sidecar.client import DEADLINE_SECONDS

_PREFIX = "/api/agents/{name}"
_HANDED_ON = ("content-type", "if-match", "if-none-match", "last-event-id", "accept")
_HANDED_BACK = ("content-type", "etag", "retry-after", "allow")
_BODY_BYTES = 2 * 1024 * 1024
# Collecting now takes as long as the slowest collector may: 5 s, or what a declared field says, and 30 s at most
# (metadata/gathering.py). The deadline for the whole call must be longer, or one that hangs would cost the answers of
# all others.
FRESH_SECONDS = 65.0


class MetadataProxy:
    """The handlers; each finds the agent and hands the request on."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def routes(self) -> list[web.Route]:
        """The table, for the hub's application and its OpenAPI document."""
        listing = (
            web.Param("source", str, None, "only facts of this source"),
            web.Param("prefix", str, None, "only keys that begin so"),
            web.Param("keys", str, None, "only these keys, separated by commas"),
            web.Param("fresh", bool, None, "collect now instead of answering what is known"),
        )
        since = (web.Param("since", int, None, "the last revision known", minimum=0),)
        wrong = (NotFound, Conflict, PreconditionFailed, TooLarge, Unprocessable, Unavailable, StorageRefused)
        one = _PREFIX + "/metadata/{key:path}"
        return [
            web.Route("GET", _PREFIX + "/metadata", self.call, "All facts of its workspace", answer=dict, query=listing,
                      errors=(NotFound, Unavailable)),
            web.Route("POST", _PREFIX + "/metadata", self.call, "Store several facts, all or nothing", answer=dict,
                      body=WriteManyBody, own_body=True, errors=wrong),
            web.Route("GET", _PREFIX + "/metadata/watch", self.watch, "Changes of its facts, as server-sent events",
                      media_type="text/event-stream", query=since, errors=(NotFound, Unavailable)),
            web.Route("GET", one, self.call, "One fact", answer=dict, errors=(NotFound, Unavailable)),
            web.Route("PUT", one, self.call, "Store one fact (201 when it is new)", answer=dict, body=WriteBody,
                      own_body=True, also=(201,), errors=wrong),
            web.Route("DELETE", one, self.call, "Delete one fact", errors=wrong),
        ]  # fmt: skip

    async def call(self, call: web.Call) -> Response:
        """One request and its answer."""
        body = await web.read_body(call.request, _BODY_BYTES)
        client = await self._fleet.client(call.path["name"])
        fresh = bool(call.query.get("fresh"))
        status, headers, data = await client.forward(
            call.request.method,
            self._path(call),
            headers=self._headers(call),
            body=body,
            deadline=FRESH_SECONDS if fresh else DEADLINE_SECONDS,
        )
        kept = {name: value for name, value in headers.items() if name in _HANDED_BACK}
        return Response(data, status, kept)

    async def watch(self, call: web.Call) -> Response:
        """The stream, opened first so that a refusal is an answer and not a broken stream."""
        client = await self._fleet.client(call.path["name"])
        stream = client.forward_stream(self._path(call), headers=self._headers(call))
        first = await anext(stream)

        async def rest() -> AsyncIterator[bytes]:
            yield first
            async for chunk in stream:
                yield chunk

        return StreamingResponse(rest(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    @staticmethod
    def _path(call: web.Call) -> str:
        """The sidecar's path: what stands behind the agent's name, still encoded, with the query.

        Raises `InvalidInput` where that is no path of the metadata server; the client refuses steps in it.
        """
        raw = call.request.scope.get("raw_path") or call.request.url.path.encode()
        # Cut by position: an agent's name may itself begin with "metadata".
        parts = raw.decode("latin-1").split("/", 5)
        if [unquote(part) for part in parts[:5]] != ["", "api", "agents", call.path["name"], "metadata"]:
            raise InvalidInput("this is no path of the metadata server")
        query = call.request.scope["query_string"].decode("latin-1")
        return "/" + "/".join(("metadata", *parts[5:])) + (f"?{query}" if query else "")

    @staticmethod
    def _headers(call: web.Call) -> dict[str, str]:
        return {name: value for name in _HANDED_ON if (value := call.request.headers.get(name))}
