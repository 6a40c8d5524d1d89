"""The HTTP calls under `/metadata`: one lean ASGI callable, and the same calls as a table for OpenAPI.

The callable does by hand what a framework would do in ten times the time: reads are most of the load.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from quarterdeck import web
from quarterdeck.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    PreconditionFailed,
    QuarterdeckError,
    StorageRefused,
    TooLarge,
    Unavailable,
    Unprocessable,
)
from quarterdeck.metadata import model
from quarterdeck.metadata.facts import Fact, changes_json, entries_json
from quarterdeck.metadata.model import KeyAnswer, MetadataAnswer, WriteBody, WriteManyBody, Written
from quarterdeck.metadata.pacing import Pacer
from quarterdeck.metadata.store import Put

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from quarterdeck.metadata.service import Match, MetadataService

log = logging.getLogger(__name__)
PATH = "/metadata"
HEARTBEAT_SECONDS = 15.0
SLOW_SECONDS = 1.0
# A value may be written with six bytes per character (\uXXXX), and has its braces and its name around it.
PUT_BYTES = model.MAX_VALUE_BYTES * 6 + 8192
POST_BYTES = 2 * 1024 * 1024

_encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")
_TAGS = {
    "If-Match": r'\*|"[!#-+\--~]*"( *, *"[!#-+\--~]*")*',
    "If-None-Match": r'\*|(W/)?"[!#-+\--~]*"( *, *(W/)?"[!#-+\--~]*")*',
}
Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, Headers, bytes]


class MetadataApi:
    """Answers exactly the `/metadata` paths; access control is the embedding app's affair."""

    def __init__(self, service: MetadataService) -> None:
        self._service = service
        self._reads = Pacer(lambda: service.flushing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        assert scope["type"] == "http"
        began = time.perf_counter()
        method, path = scope["method"], scope["path"]
        asked = path[:300]
        head = method == "HEAD"
        try:
            if path == PATH + "/watch" and method == "GET":
                await watch_response(self._service, scope)(scope, receive, send)
                return
            body = await _body(scope, receive, method) if method in ("PUT", "POST") else b""
            if head:
                method = "GET"
            if method == "GET" and (turn := self._reads.turn()) is not None:
                await turn
            status, headers, data = await answer(
                self._service, method, path, scope["query_string"], scope["headers"], body
            )
        except QuarterdeckError as error:
            # Some of its words are the caller's, who must not be able to write lines of ours.
            log.info("%s %r refused: %r", method, asked, error.message[:500])
            status, headers, data = _refusal(error)
        except _Gone:
            return
        except Exception:
            log.exception("%s %r failed", method, asked)
            status, headers, data = _refusal(QuarterdeckError("something went wrong inside; the log has the details"))
        if time.perf_counter() - began > SLOW_SECONDS:
            log.warning("%s %r took %.1f s", method, asked, time.perf_counter() - began)
        if status not in (204, 304):
            headers.append((b"content-length", b"%d" % len(data)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if head else data})


class _Gone(Exception):
    """The client went away while it sent."""


async def _body(scope: Scope, receive: Receive, method: str) -> bytes:
    limit = PUT_BYTES if method == "PUT" else POST_BYTES
    message = await receive()
    data: bytes = message.get("body", b"")
    while message.get("more_body"):
        if len(data) > limit:
            break
        message = await receive()
        data += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise _Gone
    if len(data) > limit:
        raise TooLarge(f"the body has more than the {limit} bytes that are taken", details={"limit": limit})
    return data


def _refusal(error: QuarterdeckError) -> Answer:
    headers = [_JSON]
    if error.http_status == 503:
        headers.append((b"retry-after", b"1"))
    if isinstance(error, web.MethodNotAllowed):
        headers.append((b"allow", error.hint.removeprefix("allowed: ").encode()))
    return error.http_status, headers, _encode(error.to_json())


async def answer(service: MetadataService, method: str, path: str, query: bytes, headers: Any, body: bytes) -> Answer:
    """The answer to one call. Raises the errors of `quarterdeck.errors`."""
    if path == PATH:
        if method == "GET":
            return await _get_all(service, query)
        _no_query(query)
        if method == "POST":
            return await _post(service, headers, body)
        raise _not_allowed(method, "GET, HEAD, POST")
    key = path[len(PATH) + 1 :]
    if key == "watch":
        raise _not_allowed(method, "GET")
    _no_query(query)
    if method == "GET":
        return _get(service, key, headers)
    if method == "PUT":
        return await _put(service, key, headers, body)
    if method == "DELETE":
        await service.delete(key, _match(headers))
        return 204, [], b""
    raise _not_allowed(method, "GET, HEAD, PUT, DELETE")


def _not_allowed(method: str, allowed: str) -> QuarterdeckError:
    return web.MethodNotAllowed(f"there is no {method} here", hint=f"allowed: {allowed}")


def _no_query(query: bytes) -> None:
    if query:
        raise InvalidInput(f"this call has no parameters, given: {query[:200].decode(errors='replace')}")


def _get(service: MetadataService, key: str, headers: Any) -> Answer:
    fact = service.fact(key)
    tag = model.etag(fact.revision).encode()
    for name, value in headers:
        if name == b"if-none-match" and not {tag.decode(), "*"}.isdisjoint(_tags("If-None-Match", value)):
            return 304, [(b"etag", tag)], b""
    return 200, [_JSON, (b"etag", tag)], _key_json(fact)


def _key_json(fact: Fact) -> bytes:
    return b'{"key":"%s","revision":%d,%s' % (fact.key.encode(), fact.revision, fact.json(time.time()))


async def _get_all(service: MetadataService, query: bytes) -> Answer:
    source, prefix, keys, fresh = _filters(query) if query else (None, None, None, False)
    facts, milliseconds = await service.select(source=source, prefix=prefix, keys=keys, fresh=fresh)
    now = time.time()
    meta = _encode(service.meta(now, milliseconds))
    return 200, [_JSON], b'{"data":%s,"meta":%s}' % (entries_json(facts, now), meta)


def _filters(query: bytes) -> tuple[str | None, str | None, list[str] | None, bool]:
    given: dict[str, str] = {}
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise InvalidInput("the query is not UTF-8") from None
    for name, value in pairs:
        if name not in ("source", "prefix", "keys", "fresh"):
            raise InvalidInput(f"no such parameter: {name}", hint="known: fresh, keys, prefix, source")
        if name in given:
            raise InvalidInput(f"{name} is given more than once")
        given[name] = value
    fresh = given.get("fresh", "false")
    if fresh not in ("true", "false"):
        raise InvalidInput(f"fresh={fresh!r} is neither true nor false")
    keys = [k for k in given["keys"].split(",") if k] if "keys" in given else None
    return given.get("source"), given.get("prefix"), keys, fresh == "true"


async def _put(service: MetadataService, key: str, headers: Any, body: bytes) -> Answer:
    model.check_key(key)
    wanted = model.read_write_body(body)
    description = wanted.description
    if description is not None:
        model.check_description(key, description)
    put = Put(model.encode_value(key, wanted.value), description, wanted.include_in_list)
    created, fact = await service.put_one(key, put, _match(headers))
    return 201 if created else 200, [_JSON, (b"etag", model.etag(fact.revision).encode())], _key_json(fact)


async def _post(service: MetadataService, headers: Any, body: bytes) -> Answer:
    if _match(headers) is not None:
        raise InvalidInput("If-Match and If-None-Match are for one key", hint="PUT /metadata/{key}")
    done = await service.write(model.read_many_body(body).data)
    return 200, [_JSON], _encode(done)


def _match(headers: Any) -> Match | None:
    """The precondition in a request's headers, on the revision that the key has then."""
    wanted: set[str] | None = None
    unwanted: set[str] | None = None
    for name, value in headers:
        if name == b"if-match":
            wanted = (wanted or set()) | _tags("If-Match", value)
        elif name == b"if-none-match":
            unwanted = (unwanted or set()) | _tags("If-None-Match", value)
    if wanted is None and unwanted is None:
        return None

    def matches(_: str, revision: int | None) -> bool:
        tag = None if revision is None else model.etag(revision)
        if wanted is not None and (tag is None or ("*" not in wanted and tag not in wanted)):
            return False
        return unwanted is None or tag is None or ("*" not in unwanted and tag not in unwanted)

    return matches


def _tags(header: Literal["If-Match", "If-None-Match"], value: bytes) -> set[str]:
    text = value.decode("latin-1").strip()
    if not re.fullmatch(_TAGS[header], text):
        raise InvalidInput(
            f"{header}: {text[:100]!r} is no tag of ours; a tag stands in quotes, as ETag gives it",
            hint=f'{header}: "1000001", several with commas between, or *',
        )
    # Only to find out that nothing changed a weak tag is as good as a strong one; some proxies make them weak.
    return {part.strip().removeprefix("W/") for part in text.split(",")}


# -------------------------------------------------------------------- changes as they come


def watch_response(service: MetadataService, scope: Scope) -> StreamingResponse:
    """The stream of `GET /metadata/watch`. Raises `InvalidInput` for a revision that is none."""
    since: str | None = None
    for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        if name != "since":
            raise InvalidInput(f"no such parameter: {name}", hint="known: since")
        since = value
    # A browser that connects again says itself where it was.
    for header, raw in scope["headers"]:
        if header == b"last-event-id":
            since = raw.decode("latin-1")
    if since is not None and not (
        since.isascii() and since.isdigit() and len(since) <= 16 and int(since) <= web.MAX_INT
    ):
        raise InvalidInput(f"since={since!r} is not a revision", hint="`meta.revision` of GET /metadata is one")
    stream = _events(service, int(since) if since else None)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


async def _events(service: MetadataService, since: int | None) -> AsyncIterator[bytes]:
    import anyio

    yield b"retry: 1000\n\n"
    send, receive = anyio.create_memory_object_stream[bytes](1)

    async def follow() -> None:
        async with send:
            async for revision, facts, whole in service.follow(since):
                data = b'{"revision":%d,"data":%s}' % (revision, changes_json(facts, time.time()))
                # In JSON a line end is only ever between two tokens; in a stream it would end the event's data.
                data = data.translate(None, b"\r\n")
                name = b"snapshot" if whole else b"change"
                await send.send(b"event: %s\nid: %d\ndata: %s\n\n" % (name, revision, data))

    async with anyio.create_task_group() as group:
        group.start_soon(follow)
        with receive:
            while True:
                item: bytes | None = b": still here\n\n"
                with anyio.move_on_after(HEARTBEAT_SECONDS):
                    try:
                        item = await receive.receive()
                    except anyio.EndOfStream:
                        item = None
                if item is None:
                    break
                yield item
        group.cancel_scope.cancel()


# -------------------------------------------------------------------- the table


def routes(service: MetadataService) -> list[web.Route]:
    """The same calls for `web.build` and `openapi_of`."""

    async def call(call: web.Call) -> Response:
        request: Request = call.request
        limit = PUT_BYTES if request.method == "PUT" else POST_BYTES
        body = await web.read_body(request, limit) if request.method in ("PUT", "POST") else b""
        scope = request.scope
        try:
            status, headers, data = await answer(
                service, request.method, scope["path"], scope["query_string"], scope["headers"], body
            )
        except QuarterdeckError as error:
            status, headers, data = _refusal(error)
        shown: Mapping[str, str] = {name.decode(): value.decode() for name, value in headers}
        return Response(data or None, status, shown)

    async def watch(call: web.Call) -> Response:
        return watch_response(service, call.request.scope)

    tags = ("metadata",)
    key = PATH + "/{key:path}"
    filters = (
        web.Param("source", str, None, "only facts of this source: stored, git, github, ..."),
        web.Param("prefix", str, None, "only keys that begin with this"),
        web.Param("keys", str, None, "only these keys, separated by commas"),
        web.Param("fresh", bool, False, "true: collect now instead of answering what is known"),
    )
    since = web.Param("since", int, None, "only what came after this revision", minimum=0)
    resumed = web.Param("Last-Event-ID", str, None, "the same, as a browser says it", pattern="[0-9]{1,16}")
    match = web.Param(
        "If-Match", str, None, "only when it is at the revision of this ETag (in quotes)", pattern=_TAGS["If-Match"]
    )
    unless = web.Param(
        "If-None-Match", str, None, "only when it is not at the revision of this ETag (in quotes); *: not there",
        pattern=_TAGS["If-None-Match"],
    )  # fmt: skip
    tag = {"ETag": "the revision of its last change, in quotes"}
    no_method = web.MethodNotAllowed
    writing = (no_method, Conflict, PreconditionFailed, TooLarge, Unprocessable, Unavailable, StorageRefused)
    return [
        web.Route(
            "GET", PATH, call, "All facts", answer=MetadataAnswer, query=filters, errors=(no_method,), tags=tags
        ),
        web.Route(
            "POST", PATH, call, "Store several facts, all or none", answer=Written, body=WriteManyBody,
            errors=writing, tags=tags, own_body=True,
        ),
        web.Route(
            "GET", PATH + "/watch", watch, "Changes as server-sent events", query=(since,), headers=(resumed,),
            media_type="text/event-stream", errors=(no_method,), tags=tags,
        ),
        web.Route(
            "GET", key, call, "One fact", answer=KeyAnswer, headers=(unless,), errors=(NotFound, no_method), tags=tags,
            bare={304: "it is still at the revision of If-None-Match"}, answer_headers=tag,
        ),
        web.Route(
            "PUT", key, call, "Store one fact (201 when it is new)", answer=KeyAnswer, body=WriteBody,
            headers=(match, unless), errors=writing, tags=tags, own_body=True, also=(201,), answer_headers=tag,
        ),
        web.Route("DELETE", key, call, "Delete a stored fact", headers=(match, unless), errors=writing, tags=tags),
    ]  # fmt: skip
