"""HTTP as every server of ours speaks it: a table of routes, typed bodies, one form of error, OpenAPI.

A `Route` says all about one call; `build` makes the Starlette routes from a table of them, and `openapi` the
OpenAPI 3.1 document from the same table, so that the document cannot lie. Bodies are decoded by msgspec
against the route's type and limited in size; errors of `quarterdeck.errors` become their JSON form, anything
else a 500 that tells nothing of the inside.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from quarterdeck.errors import (
    InternalError,
    InvalidInput,
    NotFound,
    PermissionDenied,
    QuarterdeckError,
    TooLarge,
    Unauthenticated,
)

log = logging.getLogger(__name__)
T = TypeVar("T")
_encoder = msgspec.json.Encoder()
DEFAULT_BODY_BYTES = 2 * 1024 * 1024
# What every reader of JSON takes whole, and any database of ours too.
MAX_INT = 2**53 - 1


@dataclass(frozen=True)
class Param:
    """A query or header parameter: its name, type, default and meaning.

    An int without a `maximum` has `MAX_INT`; `pattern` is what the whole of a text must match.
    """

    name: str
    kind: type
    default: Any
    description: str
    minimum: float | None = None
    maximum: float | None = None
    pattern: str | None = None


@dataclass(frozen=True)
class Call:
    """A request that passed the checks: path, query and header values by name, the decoded body, the raw request."""

    request: Request
    path: Mapping[str, str]
    query: Mapping[str, Any]
    headers: Mapping[str, Any]
    body: Any


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True)
class Route:
    """One call of an API. `handler` returns a value to be encoded as JSON, a `Response`, or None for 204.

    With `own_body` the handler reads and checks the request's body itself; `body` then only documents it.
    `also` are further statuses of success with the same answer. Of the headers, those in `headers` are checked
    and documented; others are no error. `bare` (further statuses without a body, with their meaning) and
    `answer_headers` (of every answer that is no error, with their meaning) only document what the handler does.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    answer: Any = None
    body: Any = None
    status: int = 200
    query: tuple[Param, ...] = ()
    headers: tuple[Param, ...] = ()
    errors: tuple[type[QuarterdeckError], ...] = ()
    body_bytes: int = DEFAULT_BODY_BYTES
    media_type: str = "application/json"
    tags: tuple[str, ...] = field(default=())
    own_body: bool = False
    also: tuple[int, ...] = ()
    bare: Mapping[int, str] = field(default_factory=dict)
    answer_headers: Mapping[str, str] = field(default_factory=dict)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer of anything that msgspec can encode."""
    return Response(_encoder.encode(value), status, headers, media_type="application/json")


def error_response(error: QuarterdeckError) -> Response:
    """An error in the one form that all our servers use."""
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthenticated) else {}
    if error.http_status == 503:
        headers["Retry-After"] = "1"
    return json_response(error.to_json(), error.http_status, headers)


async def read_body(request: Request, limit: int) -> bytes:
    """The request's body. Raises `TooLarge` with both figures as soon as it passes `limit` bytes."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise TooLarge(f"the body has {declared} bytes, at most {limit} are taken", details={"limit": limit})
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise TooLarge(f"the body has more than the {limit} bytes that are taken", details={"limit": limit})
    return bytes(data)


def decode(data: bytes, kind: type[T]) -> T:
    """Decode a JSON body. Raises `InvalidInput` that names the field."""
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"the body is not right: {error}") from error


def _query(request: Request, params: Iterable[Param]) -> dict[str, Any]:
    known = {p.name for p in params}
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        raise InvalidInput(
            f"no such parameter: {', '.join(sorted(unknown))}",
            hint=f"known: {', '.join(sorted(known)) or 'none'}",
        )
    return _values(request.query_params, params)


def _values(given: Mapping[str, str], params: Iterable[Param]) -> dict[str, Any]:
    texts = ((param, given.get(param.name)) for param in params)
    return {param.name: param.default if text is None else value_of(param, text) for param, text in texts}


def value_of(param: Param, text: str) -> Any:
    """A parameter's value from its text. Raises `InvalidInput` that says what is wrong with it."""
    try:
        value: Any = msgspec.convert(text, param.kind, strict=False)
    except msgspec.ValidationError:
        raise InvalidInput(f"{param.name}={text!r} is not a {param.kind.__name__}") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"{param.name}={text!r} is not a number")
    if param.minimum is not None and value < param.minimum:
        raise InvalidInput(f"{param.name} is {text}, at least {param.minimum:g} is needed")
    maximum = maximum_of(param)
    if maximum is not None and value > maximum:
        raise InvalidInput(f"{param.name} is {text}, at most {maximum:g} is allowed")
    if param.pattern is not None and not re.fullmatch(param.pattern, text):
        raise InvalidInput(f"{param.name}={text!r} is not right", hint=param.description)
    return value


def maximum_of(param: Param) -> float | None:
    """The largest value that a number may have; None for what is no number."""
    return MAX_INT if param.maximum is None and param.kind is int else param.maximum


def _endpoint(route: Route) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            query = _query(request, route.query)
            headers = _values(request.headers, route.headers)
            body = (
                decode(await read_body(request, route.body_bytes), route.body)
                if route.body and not route.own_body
                else None
            )
            result = await route.handler(Call(request, request.path_params, query, headers, body))
        except QuarterdeckError as error:
            return error_response(error)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception:
            log.exception("%s %s failed", route.method, route.path)
            return error_response(QuarterdeckError("something went wrong inside; the log has the details"))
        if isinstance(result, Response):
            return result
        if result is None and route.answer is None:
            return Response(status_code=204)
        return json_response(result, route.status)

    return endpoint


def build(routes: Sequence[Route]) -> list[StarletteRoute]:
    """The Starlette routes of a table."""
    return [StarletteRoute(r.path, _endpoint(r), methods=[r.method]) for r in routes]


class MethodNotAllowed(InvalidInput):
    """This path has no such method (HTTP 405)."""

    http_status = 405


async def _no_route(request: Request, error: Exception) -> Response:
    """What no route of the table takes, told as every other error is; a 405 names all methods of the path."""
    path = request.scope["path"]
    if not isinstance(error, HTTPException) or error.status_code != MethodNotAllowed.http_status:
        status = error.status_code if isinstance(error, HTTPException) else 500
        known = NotFound(f"there is no {path!r} here", hint="openapi.json says what there is")
        return error_response(known if status == NotFound.http_status else InternalError(str(error)))
    routes = [r for r in request.app.routes if isinstance(r, StarletteRoute)]
    methods = {m for r in routes if r.matches(request.scope)[0] is not Match.NONE for m in r.methods or ()}
    allowed = ", ".join(sorted(methods))
    response = error_response(MethodNotAllowed(f"there is no {request.method} here", hint=f"allowed: {allowed}"))
    response.headers["Allow"] = allowed
    return response


# For the `exception_handlers` of every Starlette application of ours.
NO_ROUTE: Mapping[Any, Any] = {HTTPException: _no_route}


class Guard:
    """ASGI middleware: bearer token, Host and Origin, before anything else sees the request.

    `token` None means no token is asked for (a unix socket, whose file mode is the guard); an empty one, which
    anybody could guess, is an `InternalError`. Requests that came over a unix socket skip all checks.
    `open_paths` need no token; `may_see_all` says whether one was shown. Browsers are kept out by refusing
    foreign Hosts (DNS rebinding) and foreign Origins. Of `hosts`, one that stands for every address (0.0.0.0,
    ::) allows every Host, where a token is asked for: a page that was rebound to us does not have it.
    """

    def __init__(
        self, app: ASGIApp, *, token: str | None, hosts: Iterable[str] = (), open_paths: Iterable[str] = ()
    ) -> None:
        if token is not None and not token.strip():
            raise InternalError("an empty token guards nothing", hint="remove the token's file: a new one is made")
        hosts = list(hosts)
        self._app = app
        self._any_host = token is not None and any(map(_is_wildcard, hosts))
        self._token = token.encode() if token is not None else None
        self._hosts = {h.lower() for h in hosts}
        self._open = frozenset(open_paths)
        # The same few Hosts come with every request, and reading an address costs as much as an answer.
        self._is_ours = lru_cache(maxsize=64)(self._check_ours)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with the refusal."""
        if scope["type"] == "http" and not _over_unix_socket(scope):
            headers = {k: v for k, v in scope["headers"] if k in (b"host", b"origin", b"authorization")}
            refusal = self._refusal(scope["path"], headers)
            if refusal is not None:
                await error_response(refusal)(scope, receive, send)
                return
            if scope["path"] in self._open:
                scope = {**scope, _SEES_ALL: self._has_token(headers)}
        await self._app(scope, receive, send)

    def _refusal(self, path: str, headers: Mapping[bytes, bytes]) -> QuarterdeckError | None:
        host = _host_name(headers.get(b"host", b"").decode("latin-1"))
        if not self._any_host and not self._is_ours(host):
            return PermissionDenied(f"the Host {host!r} is not ours", hint="use 127.0.0.1 or localhost")
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and not self._is_ours(_host_name(origin.partition("://")[2])):
            return PermissionDenied("requests from another web page are refused")
        if path not in self._open and not self._has_token(headers):
            return Unauthenticated("a bearer token is needed", hint="`qd token` prints it on the hub's machine")
        return None

    def _has_token(self, headers: Mapping[bytes, bytes]) -> bool:
        if self._token is None:
            return True
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token)

    def _check_ours(self, name: str) -> bool:
        if name in self._hosts or name == "localhost":
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False


_SEES_ALL = "quarterdeck.sees_all"


def may_see_all(scope: Scope) -> bool:
    """Whether a request for an open path may be answered with more than that we are well."""
    return bool(scope.get(_SEES_ALL, True))


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return False


def _over_unix_socket(scope: Scope) -> bool:
    """ASGI: no server at all, or a path with no port."""
    server = scope.get("server")
    return server is None or server[1] is None


def _host_name(value: str) -> str:
    """The name of a Host header without its port."""
    value = value.lower()
    if value.startswith("["):
        return value[1:].partition("]")[0]
    return value.rsplit(":", 1)[0] if ":" in value else value
