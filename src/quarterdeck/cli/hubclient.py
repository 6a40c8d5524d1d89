"""The hub as the command line sees it: a few blocking HTTP calls, the standard library alone."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any, Self
from urllib.parse import quote, urlencode, urlsplit

from quarterdeck import config
from quarterdeck.errors import InternalError, InvalidInput, Unavailable, error_from_json

DEFAULT_TIMEOUT_SECONDS = 60.0
_NO_HUB = "start one with `qd up` in a git repository"


class HubClient:
    """One hub: its address and the token for it. Every call is a connection of its own."""

    def __init__(self, url: str, token: str, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> None:
        """Raises `InvalidInput` for an address that is none."""
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.scheme not in ("http", "https") or not parts.hostname or (parts.netloc.count(":") and port is None):
            raise InvalidInput(f"{url!r} is not the address of a hub", hint="like http://127.0.0.1:7400")
        self.url = url.rstrip("/")
        self.token = token
        self._parts = parts
        self._timeout = timeout_seconds

    @classmethod
    def find(cls, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> Self:
        """The hub that QD_HUB_URL names, else the one that runs on the state folder.

        Raises `Unavailable` when there is none.
        """
        from quarterdeck.hub import place

        state = config.state_dir()
        url = config.variable("QD_HUB_URL")
        if url is None:
            info = place.running(state)
            if info is None:
                raise Unavailable(f"no hub runs on {state}", hint=_NO_HUB)
            url = info.url
        given = config.variable("QD_TOKEN") or _stored_token()
        if given is None:
            raise InvalidInput("there is no token for the hub", hint="set QD_TOKEN to what `qd token` says over there")
        return cls(url, given, timeout_seconds=timeout_seconds)

    def get(self, path: str, **query: Any) -> Any:
        """GET; the decoded answer. Raises what the hub answered, `Unavailable` when it does not answer."""
        return self._call("GET", path, query=query)

    def post(self, path: str, body: Any = None, *, headers: dict[str, str] | None = None, patient: bool = False) -> Any:
        """POST; the decoded answer. Raises as `get`. `patient` waits as long as the hub works on it."""
        return self._call("POST", path, body=body or {}, headers=headers, patient=patient)

    def delete(self, path: str, **query: Any) -> Any:
        """DELETE; the decoded answer. Raises as `get`."""
        return self._call("DELETE", path, query=query)

    def lines(self, path: str, **query: Any) -> Iterator[str]:
        """GET a stream; its lines as they come. Raises as `get`."""
        _check_headers(self._headers())
        connection = self.connect()
        try:
            connection.request("GET", self._target(path, query), headers=self._headers())
            response = connection.getresponse()
            if response.status >= 400:
                _decoded(response.status, response.read())
            for line in response:
                yield line.decode().rstrip("\r\n")
        except (OSError, http.client.HTTPException) as error:
            raise self.unreachable(error) from error
        finally:
            connection.close()

    def connect(self, timeout_seconds: float | None = None) -> http.client.HTTPConnection:
        """A connection, not opened yet; without a time its reads wait as long as it takes."""
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        assert self._parts.hostname is not None
        return kind(self._parts.hostname, self._parts.port, timeout=timeout_seconds)

    def unreachable(self, error: Exception) -> Unavailable:
        """The error for a hub that does not answer."""
        reason = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        return Unavailable(f"the hub at {self.url} does not answer: {reason}", hint=f"is it running? {_NO_HUB}")

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
        patient: bool = False,
    ) -> Any:
        target = self._target(path, query or {})
        data = None if body is None else json.dumps(body).encode()
        sent = {**self._headers(), **(headers or {})}
        _check_headers(sent)
        connection = self.connect(self._timeout)
        try:
            connection.connect()
            if patient and connection.sock is not None:
                connection.sock.settimeout(None)
            connection.request(method, target, data, sent)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self.unreachable(error) from error
        finally:
            connection.close()
        return _decoded(response.status, content)

    def _target(self, path: str, query: dict[str, Any]) -> str:
        given = {key: value for key, value in query.items() if value is not None}
        return self._parts.path.rstrip("/") + path + (f"?{urlencode(given)}" if given else "")

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}


def _check_headers(headers: dict[str, str]) -> None:
    """Raise `InvalidInput` for what cannot be sent. The value is not told: it may be the token."""
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable() and value.strip() == value and value):
            hint = "take 1 to 255 printable ASCII characters, without spaces around them"
            raise InvalidInput(f"what is given as {name} cannot be sent", hint=hint)


def path_of(name: str, *parts: str) -> str:
    """The hub's path of an agent; whatever the name holds stays one piece of it."""
    return "/".join(["/api/agents", quote(name, safe=""), *parts])


def _decoded(status: int, content: bytes) -> Any:
    try:
        answer = json.loads(content) if content else None
    except ValueError:
        answer = None
        if status < 400:
            raise InternalError("what answers there is no hub of ours", hint="look at QD_HUB_URL") from None
    if status >= 400:
        raise error_from_json(answer, status=status)
    return answer


def _stored_token() -> str | None:
    """The token in the state folder, which is not made here."""
    from quarterdeck.hub import place

    try:
        return place.stored_token(config.state_dir())
    except OSError:
        return None
