"""The sidecar's HTTP API: one table of routes over the session and the metadata server."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlencode

import anyio
import msgspec
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from quarterdeck import __version__, web
from quarterdeck.errors import Conflict, NotFound, QuarterdeckError, StorageRefused, Unprocessable
from quarterdeck.metadata.metrics import MEDIA as METRICS_MEDIA
from quarterdeck.metadata.metrics import text as metrics_text
from quarterdeck.metadata.service import MetadataService, readiness
from quarterdeck.openapi import openapi_of
from quarterdeck.sidecar import facts
from quarterdeck.sidecar.model import (
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_MEANING,
    Attention,
    LogEntry,
    LogPage,
    Report,
    SidecarFacts,
    Task,
    TaskPage,
)
from quarterdeck.sidecar.session import Session
from quarterdeck.sidecar.stream import event_stream

SUMMARY_CHARACTERS = 160
LINK_CHARACTERS = 2048
NOTE_CHARACTERS = 2000
MAX_WAIT_SECONDS = 300
OPEN_PATHS = ("/health", "/health/live", "/health/ready")


class NewTask(msgspec.Struct, forbid_unknown_fields=True):
    """A task to give. `hold` keeps it waiting until it is released (the fleet's limit of busy agents)."""

    description: str
    queue: bool = False
    origin: str = ""
    hold: bool = False


class NewAnswer(msgspec.Struct, forbid_unknown_fields=True):
    """An answer: an option's id or name (several with commas between where `multiple`), allow or deny for a
    permission, or free text where `free_text`.
    """

    answer: str


class NewReport(msgspec.Struct, forbid_unknown_fields=True):
    """The agent's own summary of what it does."""

    summary: str
    state: Literal["working", "idle", "complete", "failure"] = "working"
    link: Annotated[str, msgspec.Meta(max_length=LINK_CHARACTERS)] | None = None


class NewNote(msgspec.Struct, forbid_unknown_fields=True):
    """Something that happened beside the tasks, for a person to read; the same key again notes nothing new."""

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=NOTE_CHARACTERS)]


@dataclass(frozen=True, kw_only=True)
class Health:
    """That the sidecar answers, and what is wrong with it, if anything is.

    `metadata` has the figures of the metadata server. Without the token neither is told, only the status.
    """

    status: Literal["ok", "degraded"]
    agent: str
    incarnation: int
    version: str
    problems: list[str]
    metadata: dict[str, Any] | None = None


_FENCE = web.Param(
    "incarnation", int, None, "the incarnation that is meant; a stale one is refused with 409", minimum=0
)

_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_KEY = web.Param("Idempotency-Key", str, None, IDEMPOTENCY_MEANING, pattern=IDEMPOTENCY_KEY)


def make_report(summary: str, state: str, link: str | None) -> Report:
    """A report, checked. Raises `Unprocessable` with both figures when the summary or the link is too long."""
    if len(summary) > SUMMARY_CHARACTERS:
        raise Unprocessable(f"the summary has {len(summary)} characters, at most {SUMMARY_CHARACTERS} are taken")
    if link is not None and len(link) > LINK_CHARACTERS:
        raise Unprocessable(f"the link has {len(link)} characters, at most {LINK_CHARACTERS} are taken")
    if not summary.strip():
        raise Unprocessable("the summary is empty")
    if state not in ("working", "idle", "complete", "failure"):
        raise Unprocessable(f"the state {state!r} is not one of working, idle, complete, failure")
    return Report(summary=summary, state=state, link=link, reported_at=time.time())  # type: ignore[arg-type]


class SidecarApi:
    """The handlers. `closing` is set when the process is about to end, so that streams end too."""

    def __init__(self, session: Session, metadata: MetadataService, closing: anyio.Event) -> None:
        self._session = session
        self._metadata = metadata
        self._closing = closing

    def facts(self) -> SidecarFacts:
        """The facts now."""
        return facts.build(self._session, self._metadata.summary())

    def routes(self) -> list[web.Route]:
        """The table."""
        route = web.Route
        return [
            route("GET", "/health", self.health, "Whether the sidecar is well", answer=Health),
            route("GET", "/health/live", self.live, "200 as soon as the process answers", answer=dict[str, Any]),
            route("GET", "/health/ready", self.ready, "200: stored metadata is loaded; with its figures",
                  answer=dict[str, Any]),
            route("GET", "/metrics", self.metrics, "Figures of the metadata server for Prometheus",
                  media_type="text/plain"),
            route("GET", "/v1/agent", self.agent, "Facts and the derived status", answer=SidecarFacts),
            route("POST", "/v1/tasks", self.add_task,
                  "Give a task (200 when Idempotency-Key was used before: the same task)", body=NewTask, answer=Task,
                  status=201, also=(200,), query=(_FENCE,), headers=(_KEY,), errors=(Conflict, StorageRefused)),
            route("GET", "/v1/tasks", self.tasks, "Tasks, newest first, and the notes of their time", answer=TaskPage,
                  query=(
                web.Param("offset", int, 0, "how many to pass over", minimum=0),
                web.Param("limit", int, 20, "how many to give", minimum=1, maximum=100))),
            route("GET", "/v1/tasks/{id}", self.task, "One task", answer=Task, errors=(NotFound,), query=(
                web.Param("wait", float, 0.0, "seconds to wait for its end", minimum=0, maximum=MAX_WAIT_SECONDS),)),
            route("POST", "/v1/tasks/{id}/cancel", self.cancel, "Cancel a task, waiting or running",
                  answer=Task, status=202, query=(_FENCE,), errors=(NotFound, Conflict)),
            route("POST", "/v1/tasks/{id}/withdraw", self.withdraw, "Cancel a task, but only while it waits",
                  answer=Task, query=(_FENCE, web.Param("reason", str, None, "why, for the task's history")),
                  errors=(NotFound, Conflict)),
            route("POST", "/v1/tasks/{id}/release", self.release, "Let a held task run",
                  answer=Task, query=(_FENCE,), errors=(NotFound, Conflict)),
            route("GET", "/v1/log", self.log, "Conversation and tool calls, newest first", answer=LogPage, query=(
                web.Param("cursor", int, None, "entries older than this id", minimum=1),
                web.Param("offset", int, 0, "how many to pass over", minimum=0),
                web.Param("limit", int, 20, "how many to give", minimum=1, maximum=100))),
            route("POST", "/v1/notes", self.add_note,
                  "Note in the log and the history what happened beside the tasks (200 when it was there already)",
                  body=NewNote, answer=LogEntry, status=201, also=(200,), query=(_FENCE,),
                  errors=(Conflict, StorageRefused)),
            route("GET", "/v1/events", self.events, "What happens, as server-sent events, from any point",
                  media_type="text/event-stream", query=(
                      web.Param("after", int, 0, "the number of the last event known", minimum=0),
                      web.Param("facts", bool, False, "also send the agent's facts after each change"))),
            route("POST", "/v1/attention/{id}", self.answer, "Answer a permission request or a question",
                  body=NewAnswer, answer=Attention, query=(_FENCE,), errors=(NotFound, Conflict)),
            route("POST", "/v1/report", self.report, "The agent's own summary, at most 160 characters",
                  body=NewReport, answer=Report, status=201, query=(_FENCE,), errors=(Conflict, Unprocessable)),
            route("POST", "/v1/stop", self.stop, "End the agent and this sidecar", status=202, query=(_FENCE,),
                  answer=dict[str, str], errors=(Conflict,)),
        ]  # fmt: skip

    def _fence(self, call: web.Call, *, to_run: bool = False) -> None:
        meant = call.query.get("incarnation")
        if meant is not None:
            self._session.refuse_stale(meant, to_run=to_run)

    def fence_metadata(self, scope: Scope) -> Scope:
        """A call of the metadata server, which knows no incarnations, without the one that it meant.

        Raises `Conflict` for a stale one, `InvalidInput` for one that is none.
        """
        if scope["method"] not in _WRITES or b"incarnation" not in scope["query_string"]:
            return scope
        given = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        for meant in (value for name, value in given if name == _FENCE.name):
            self._session.refuse_stale(web.value_of(_FENCE, meant), to_run=False)
        rest = urlencode([(name, value) for name, value in given if name != _FENCE.name])
        return {**scope, "query_string": rest.encode()}

    async def health(self, call: web.Call) -> Health:
        """`GET /health`."""
        metadata = self._metadata.health()
        problems: list[str] = list(metadata["problems"])
        if self._session.state == "failed":
            problems.append(self._session.failure or "the agent failed")
        if waiting := len(self._session.backlog):
            problems.append(f"{waiting} change(s) wait for room on the disk to be recorded")
        return Health(
            status="degraded" if problems else "ok",
            agent=self._session.spec.name,
            incarnation=self._session.incarnation,
            version=__version__,
            problems=problems if web.may_see_all(call.request.scope) else [],
            metadata=metadata if web.may_see_all(call.request.scope) else None,
        )

    async def live(self, call: web.Call) -> dict[str, Any]:
        """`GET /health/live`."""
        return {"live": True}

    async def ready(self, call: web.Call) -> dict[str, Any]:
        """`GET /health/ready`: the sidecar listens only once its metadata is loaded."""
        return readiness(self._metadata, web.may_see_all(call.request.scope))

    async def metrics(self, call: web.Call) -> Response:
        """`GET /metrics`."""
        return Response(metrics_text(self._metadata), media_type=METRICS_MEDIA)

    async def agent(self, call: web.Call) -> SidecarFacts:
        """`GET /v1/agent`."""
        return self.facts()

    async def add_task(self, call: web.Call) -> Any:
        """`POST /v1/tasks`: 201 for a new task, 200 for the one that the key made before."""
        self._fence(call, to_run=True)
        body: NewTask = call.body
        key = call.headers["Idempotency-Key"]
        task, new = self._session.submit(
            body.description, key=key, queue=body.queue, origin=body.origin, held=body.hold
        )
        return web.json_response(task, 201 if new else 200)

    async def tasks(self, call: web.Call) -> TaskPage:
        """`GET /v1/tasks`."""
        page = self._session.store.tasks(offset=call.query["offset"], limit=call.query["limit"])
        return replace(page, tasks=[self._session.turns.with_position(t) for t in page.tasks])

    async def task(self, call: web.Call) -> Task:
        """`GET /v1/tasks/{id}`."""
        return await self._session.wait_for(call.path["id"], call.query["wait"])

    async def cancel(self, call: web.Call) -> Task:
        """`POST /v1/tasks/{id}/cancel`."""
        self._fence(call)
        return self._session.cancel(call.path["id"])

    async def withdraw(self, call: web.Call) -> Task:
        """`POST /v1/tasks/{id}/withdraw`: 409 for one that runs or is over."""
        self._fence(call)
        return self._session.withdraw(call.path["id"], call.query["reason"] or "")

    async def release(self, call: web.Call) -> Task:
        """`POST /v1/tasks/{id}/release`."""
        self._fence(call, to_run=True)
        return self._session.release(call.path["id"])

    async def log(self, call: web.Call) -> LogPage:
        """`GET /v1/log`."""
        self._session.flush()
        query = call.query
        entries, total = self._session.store.log_entries(
            before=query["cursor"], offset=query["offset"], limit=query["limit"]
        )
        cursor = entries[-1].id if len(entries) == query["limit"] and entries[-1].id > 1 else None
        return LogPage(entries=entries, total_count=total, next_cursor=cursor)

    async def add_note(self, call: web.Call) -> Response:
        """`POST /v1/notes`: 201 for a new note, 200 for the one that the key made before."""
        self._fence(call)
        note, new = self._session.add_note(call.body.text, key=call.body.key)
        return web.json_response(note, 201 if new else 200)

    async def events(self, call: web.Call) -> StreamingResponse:
        """`GET /v1/events`."""
        last_id = call.request.headers.get("last-event-id", "")
        known = last_id.isascii() and last_id.isdigit() and len(last_id) < 16
        after = int(last_id) if known else call.query["after"]
        stream = event_stream(
            self._session.store, self._session.pulse, after, self.facts if call.query["facts"] else None, self._closing
        )
        return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def answer(self, call: web.Call) -> Attention:
        """`POST /v1/attention/{id}`."""
        self._fence(call)
        return await self._session.answer(call.path["id"], call.body.answer)

    async def report(self, call: web.Call) -> Report:
        """`POST /v1/report`."""
        self._fence(call)
        return self._session.report(make_report(call.body.summary, call.body.state, call.body.link))

    async def stop(self, call: web.Call) -> dict[str, str]:
        """`POST /v1/stop`."""
        self._fence(call)
        self._session.stop("asked to stop")
        return {"status": "stopping"}


def _fenced(route: web.Route) -> web.Route:
    """A route of the metadata server as it is told of: its mutations are fenced here."""
    if route.method not in _WRITES:
        return route
    errors = route.errors if Conflict in route.errors else (*route.errors, Conflict)
    return replace(route, query=(*route.query, _FENCE), errors=errors)


def make_app(api: SidecarApi, metadata: MetadataService, mcp: ASGIApp) -> ASGIApp:
    """The whole application: the table, the metadata server, the agent's MCP server, the OpenAPI document."""
    table = [*api.routes(), *map(_fenced, metadata.routes())]
    document = openapi_of(
        "Quarterdeck sidecar",
        "1",
        "Beside one agent: its session, tasks, log and metadata. The incarnation fences every mutation.",
        table,
    )

    async def openapi(call: web.Call) -> Any:
        return document

    described = web.Route("GET", "/openapi.json", openapi, "This document", answer=dict)
    routes = [*web.build([*api.routes(), described]), Mount("/mcp", mcp)]
    own = Starlette(routes=routes, exception_handlers=web.NO_ROUTE)
    facts_api = metadata.asgi()

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        # Not a mount at "/": that would take what only has a wrong method or path from our own table.
        path = scope["path"] if scope["type"] == "http" else ""
        if path != "/metadata" and not path.startswith("/metadata/"):
            await own(scope, receive, send)
            return
        try:
            scope = api.fence_metadata(scope)
        except QuarterdeckError as error:
            await web.error_response(error)(scope, receive, send)
            return
        await facts_api(scope, receive, send)

    return call
