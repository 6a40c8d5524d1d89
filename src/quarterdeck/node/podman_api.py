"""The runtime over libpod's REST API on its unix socket: one millisecond where the command takes thirty.

A client that goes away in the middle leaves nothing behind here: the service finishes what it began.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import httpx2

from quarterdeck.errors import Conflict, InvalidInput, NotFound, QuarterdeckError, Unavailable
from quarterdeck.node import podman_body, podman_json, podman_ports, podman_real, podman_secrets
from quarterdeck.node.model import Health
from quarterdeck.node.options import AgentOptions
from quarterdeck.node.podman_args import instant
from quarterdeck.node.podman_attach import Frames, exec_output
from quarterdeck.node.podman_unseen import NotAll, UnseenEnds, usage_of
from quarterdeck.node.results import ExecOutput, RuntimeInfo, Usage
from quarterdeck.node.runtime import Container, CreateRequest, Details, Image, LogRecord, RuntimeEvent

_BASE = "http://podman/v4.0.0/libpod"
_MAX_CONNECTIONS = 64


async def answers(socket: Path) -> bool:
    """Whether a podman service listens there."""
    transport = httpx2.AsyncHTTPTransport(uds=str(socket))
    try:
        async with httpx2.AsyncClient(transport=transport, timeout=5) as client:
            return (await client.get(f"{_BASE}/_ping")).status_code == 200
    except (httpx2.HTTPError, OSError):
        return False


class PodmanApi:
    """`Runtime` over the socket."""

    def __init__(self, options: AgentOptions) -> None:
        self._socket = options.socket
        self._trial = podman_secrets.trial_mark(options.state_dir)
        self._insecure = options.insecure_registries
        self._seconds = options.runtime_seconds
        self._pull_seconds = options.pull_seconds
        self._unseen = UnseenEnds(self._inspect, self._has_processes)
        self._client = self._connected(httpx2.Limits(max_connections=_MAX_CONNECTIONS, max_keepalive_connections=8))
        # Streams stay open for as long as somebody follows: in one pool with the calls, they would starve those.
        self._streams = self._connected(httpx2.Limits(max_connections=None, max_keepalive_connections=0))

    def _connected(self, limits: httpx2.Limits) -> httpx2.AsyncClient:
        transport = httpx2.AsyncHTTPTransport(uds=str(self._socket), limits=limits)
        return httpx2.AsyncClient(transport=transport, timeout=self._seconds)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        about: str = "",
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content: bytes | None = None,
        seconds: float | None = None,
    ) -> httpx2.Response:
        """One request; `about` names the thing in a `NotFound`. 304 (already so) is success."""
        try:
            answer = await self._client.request(
                method,
                _BASE + path,
                params={key: _text(value) for key, value in (query or {}).items()},
                json=body,
                content=content,
                timeout=seconds or self._seconds,
            )
        except httpx2.HTTPError as error:
            raise self._gone(error) from error
        if answer.status_code >= 400:
            raise _error(answer, about)
        return answer

    def _gone(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"podman does not answer at {self._socket}: {error or type(error).__name__}",
            hint="systemctl status quarterdeck-podman.socket",
        )

    async def info(self) -> RuntimeInfo:
        """Which podman this is."""
        answer = await self._call("GET", "/version")
        return RuntimeInfo("api", str(answer.json().get("Version", "")), str(self._socket))

    async def pull(self, image: str) -> Image:
        """Fetch an image."""
        query: dict[str, Any] = {"reference": image, "quiet": True, "policy": "always"}
        if image.partition("/")[0] in self._insecure:
            query["tlsVerify"] = False
        answer = await self._call(
            "POST", "/images/pull", about=f"image {image!r}", query=query, seconds=self._pull_seconds
        )
        identity = ""
        # The status is 200 even for a failure: the body's lines tell.
        for line in answer.text.splitlines():
            row = json.loads(line)
            if row.get("error"):
                raise Unavailable(f"cannot pull {image}: {str(row['error'])[:500]}")
            identity = row.get("id") or identity
        return await self.image(identity or image)

    async def image(self, name: str) -> Image:
        """A local image."""
        answer = await self._call("GET", f"/images/{_quoted(name)}/json", about=f"image {name!r}")
        return podman_json.image(answer.json())

    async def create(self, request: CreateRequest) -> str:
        """Make a container."""
        try:
            answer = await self._call("POST", "/containers/create", about="image", body=podman_body.create(request))
        except (Unavailable, NotFound):
            # A taken name is told as 500, as everything else is.
            if await self._exists(request.name):
                raise Conflict(f"a container named {request.name!r} is there already") from None
            raise
        return str(answer.json()["Id"])

    async def _exists(self, name: str) -> bool:
        try:
            await self._call("GET", f"/containers/{_quoted(name)}/exists")
        except NotFound:
            return False
        return True

    async def run(self, request: CreateRequest) -> str:
        """Make and start a container."""
        made = await self.create(request)
        await self.start(made)
        return made

    async def start(self, name: str) -> None:
        """Start a container. When that fails, the ports that podman's service forgot to close are got back."""
        try:
            await self._on(name, "POST", "/start")
        except QuarterdeckError:
            await self._release_ports(name)
            raise

    async def _release_ports(self, name: str) -> None:
        with suppress(QuarterdeckError):
            details = await self.inspect(name)
            ports = podman_real.ports(details.raw.get("HostConfig") or {})
            if ports and details.container.state != "running":
                await podman_ports.let_go(ports, lambda path: self._call("GET", path, query={"all": True}))

    async def _on(
        self,
        name: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        seconds: float | None = None,
    ) -> httpx2.Response:
        return await self._call(
            method, f"/containers/{_quoted(name)}{path}", about=f"container {name!r}", query=query, seconds=seconds
        )

    async def stop(self, name: str, *, grace_seconds: int) -> None:
        """Stop a container."""
        await self._on(name, "POST", "/stop", query={"timeout": grace_seconds}, seconds=grace_seconds + self._seconds)

    async def remove(self, name: str, *, volumes: bool = True) -> None:
        """Remove a container."""
        try:
            await self._on(name, "DELETE", "", query={"force": True, "timeout": 0, "v": volumes, "ignore": True})
        except NotFound:
            return

    async def rename(self, name: str, new: str) -> None:
        """Rename a container."""
        try:
            await self._on(name, "POST", "/rename", query={"name": new})
        except (Unavailable, Conflict):
            if await self._exists(new):
                raise Conflict(f"a container named {new!r} is there already") from None
            raise

    async def inspect(self, name: str) -> Details:
        """Everything about one container."""
        details = await self._inspect(name)
        return replace(details, container=await self._unseen.corrected(details.container))

    async def _inspect(self, name: str) -> Details:
        return podman_json.details((await self._on(name, "GET", "/json")).json())

    async def _has_processes(self, name: str) -> bool:
        try:
            answer = await self._on(name, "GET", "/top", query={"stream": False})
        except Unavailable as error:
            if isinstance(error.__cause__, httpx2.HTTPError):
                raise
            return False
        # Podman 4.3 answers 200 and nothing at all for a container without a process.
        return bool(answer.content.strip() and answer.json().get("Processes"))

    async def list(self) -> tuple[Container, ...]:
        """Every container."""
        rows = json.loads((await self._call("GET", "/containers/json", query={"all": True})).content)
        found = [podman_json.listed(row) for row in rows or ()]
        return await self._unseen.all_corrected(sorted(found, key=lambda each: each.name))

    async def logs(
        self, name: str, *, tail: int | None = None, since: float = 0, follow: bool = False
    ) -> AsyncGenerator[LogRecord, None]:
        """The output of a container."""
        query: dict[str, Any] = {"stdout": True, "stderr": True, "timestamps": True, "follow": follow}
        if tail is not None:
            query["tail"] = tail
        if since:
            # Podman counts whole seconds here (and rounds either way): what is too early is left out below.
            query["since"] = instant(float(int(since)))
        rest = {1: b"", 2: b""}
        path = f"/containers/{_quoted(name)}/logs"
        async with self._streaming("GET", path, about=f"container {name!r}", query=query, endless=follow) as answer:
            frames = Frames()
            async for chunk in answer.aiter_raw():
                for number, data in frames.feed(chunk):
                    *lines, rest[number] = (rest[number] + data).split(b"\n")
                    for line in lines:
                        if (record := _record(number, line)).at >= since:
                            yield record
        for number, line in rest.items():
            if line:
                yield _record(number, line)

    def _streaming(
        self,
        method: str,
        path: str,
        *,
        about: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        endless: bool = False,
    ) -> _Streaming:
        timeout = httpx2.Timeout(self._seconds, read=None if endless else self._seconds)
        params = {key: _text(value) for key, value in (query or {}).items()}
        request = self._streams.build_request(method, _BASE + path, params=params, json=body, timeout=timeout)
        return _Streaming(self, self._streams, request, about)

    async def exec(
        self, name: str, command: Sequence[str], *, stdin: bytes = b"", user: str = ""
    ) -> AsyncGenerator[ExecOutput, None]:
        """Run a command in a container."""
        # Podman lets a command run in a container whose end it missed, says nothing and tells exit code 0.
        await self._must_run(name)
        body = {"AttachStdin": bool(stdin), "AttachStdout": True, "AttachStderr": True, "Cmd": [*command], "User": user}
        about = f"container {name!r}"
        try:
            made = await self._call("POST", f"/containers/{_quoted(name)}/exec", about=about, body=body)
            identity = made.json()["Id"]
            path = f"{_BASE.removeprefix('http://podman')}/exec/{identity}/start"
            async with aclosing(exec_output(self._socket, path, stdin)) as output:
                async for number, data in output:
                    yield ExecOutput("stderr" if number == 2 else "stdout", data)
        except (Unavailable, Conflict, InvalidInput):
            # It may have ended in between.
            await self._must_run(name)
            raise
        done = await self._call("GET", f"/exec/{identity}/json", about=about)
        yield ExecOutput(exit_code=int(done.json().get("ExitCode") or 0))

    async def _must_run(self, name: str) -> None:
        if (state := (await self.inspect(name)).container.state) != "running":
            raise Conflict(f"container {name!r} does not run ({state})", hint="start it first")

    async def events(self, *, since: float) -> AsyncGenerator[RuntimeEvent, None]:
        """What happens to containers."""
        query = {"stream": True, "since": instant(since), "filters": json.dumps({"type": ["container"]})}
        async with self._streaming("GET", "/events", about="events", query=query, endless=True) as answer:
            rest = b""
            async for chunk in answer.aiter_raw():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.strip() and (event := podman_json.event(json.loads(line))):
                        yield event
        raise Unavailable("podman's events ended", hint="systemctl status quarterdeck-podman.socket")

    async def healthcheck(self, name: str) -> Health:
        """Run the healthcheck once."""
        try:
            answer = await self._on(name, "GET", "/healthcheck")
        except Unavailable:
            found = (await self.inspect(name)).container
            if found.health != "none" and found.state == "running":
                raise
            raise Conflict(f"container {name!r} has no healthcheck, or does not run") from None
        status = answer.json().get("Status")
        return "healthy" if status == "healthy" else "starting" if status == "starting" else "unhealthy"

    async def usage(self) -> Mapping[str, Usage]:
        """What the running containers use."""
        return await usage_of(await self.list(), self._usage)

    async def _usage(self, ids: Sequence[str]) -> Mapping[str, Usage]:
        found = (await self._call("GET", "/containers/stats", query={"stream": False, "containers": ids})).json()
        # The status is 200 even for a failure.
        if found.get("Error") is not None:
            raise NotAll("podman does not tell what its containers use")
        return {key: value for key, value in podman_json.usage_rows(found.get("Stats") or ()).items() if value.pids}

    async def set_secret(self, name: str, value: bytes) -> None:
        """Create or replace a secret."""

        async def create(called: str, replace: bool) -> None:
            await self._call("POST", "/secrets/create", query={"name": called, "replace": replace}, content=value)

        there = name in await self.secrets()
        await podman_secrets.put(name, there=there, mark=self._trial, create=create, remove=self.remove_secret)

    async def secrets(self) -> tuple[str, ...]:
        """The secrets' names."""
        rows = (await self._call("GET", "/secrets/json")).json()
        return tuple(sorted(row["Spec"]["Name"] for row in rows or ()))

    async def remove_secret(self, name: str) -> None:
        """Remove a secret."""
        await self._call("DELETE", f"/secrets/{_quoted(name)}", about=f"secret {name!r}")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
        await self._streams.aclose()


class _Streaming:
    """An answer that is read while it comes; its errors are those of `_call`."""

    def __init__(self, api: PodmanApi, client: httpx2.AsyncClient, request: httpx2.Request, about: str) -> None:
        self._api, self._client, self._request, self._about = api, client, request, about
        self._answer: httpx2.Response | None = None

    async def __aenter__(self) -> httpx2.Response:
        try:
            self._answer = await self._client.send(self._request, stream=True)
            if self._answer.status_code >= 400:
                await self._answer.aread()
                raise _error(self._answer, self._about)
        except httpx2.HTTPError as error:
            raise self._api._gone(error) from error
        return self._answer

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._answer is not None:
            await self._answer.aclose()
        if isinstance(error, httpx2.HTTPError):
            raise self._api._gone(error) from error


def _record(number: int, line: bytes) -> LogRecord:
    stamp, space, text = line.partition(b" ")
    at = podman_json.instant(stamp.decode(errors="replace")) if space else None
    stream: Literal["stdout", "stderr"] = "stderr" if number == 2 else "stdout"
    return LogRecord(at or 0, stream, (text if at else line).decode(errors="replace"))


def _quoted(name: str) -> str:
    # Also "/": a name is one word of a path and never leads to another one. Dots alone would, too.
    plain = quote(name, safe="")
    return plain if plain.strip(".") else plain.replace(".", "%2E")


def _text(value: Any) -> str | Sequence[str]:
    return value if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)


def _error(answer: httpx2.Response, about: str) -> QuarterdeckError:
    try:
        row = answer.json()
        text = str(row.get("cause") or row.get("message") or row) if isinstance(row, Mapping) else str(row)
        text = str(row.get("message") or text) if isinstance(row, Mapping) else text
    except ValueError:
        text = answer.text
    match answer.status_code:
        case 404:
            return NotFound(f"the node has no {about}" if about else f"podman knows no such thing: {text[:500]}")
        case 409:
            return Conflict(f"{about}: {text[:500]}")
        case 400:
            return InvalidInput(f"podman refuses it: {text[:500]}")
        case status:
            return Unavailable(f"podman failed ({status}): {text[:500]}")
