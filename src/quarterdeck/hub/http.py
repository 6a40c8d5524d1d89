"""The hub's HTTP API: the same calls as the MCP tools, below `/api`, and what happens as a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any, Literal

import anyio
import msgspec
from starlette.responses import StreamingResponse

from quarterdeck import __version__, web
from quarterdeck.config import Budget, Permissions
from quarterdeck.errors import Conflict, InternalError, NotFound, TooLarge, Unavailable
from quarterdeck.events import Event
from quarterdeck.fleet.collecting import PullRequests
from quarterdeck.fleet.facts import Gathered
from quarterdeck.fleet.git.leftover_plan import Leftover
from quarterdeck.fleet.looking import MAX_PAGE, MAX_WAIT_SECONDS, LogHistory, TaskHistory
from quarterdeck.fleet.model import AgentDetail, AgentPage, AgentSummary, NewAgent, Restart
from quarterdeck.fleet.projects import Project, Role
from quarterdeck.fleet.roster import Changes
from quarterdeck.fleet.work import MAX_DIFF_BYTES, AgentDiff, AgentMerge
from quarterdeck.hub.service import Deleted, Hub, HubFacts
from quarterdeck.openapi import openapi_of
from quarterdeck.sidecar.model import IDEMPOTENCY_KEY, IDEMPOTENCY_MEANING, Attention, Task

_HEARTBEAT_SECONDS = 5.0


class CreateAgent(msgspec.Struct, forbid_unknown_fields=True):
    """A new agent; everything may be left out."""

    name: str | None = None
    project: str | None = None
    role: str = "coder"
    spec: str = ""
    task: str | None = None
    provider: str | None = None
    workspace: str | None = None
    permissions: Permissions | None = None
    restart: Restart | None = None
    budget: Budget | None = None


class RestartAgent(msgspec.Struct, forbid_unknown_fields=True):
    """New limits of its budget; one that is left out stays as it is."""

    budget: Budget | None = None


class StartTask(msgspec.Struct, forbid_unknown_fields=True):
    """A task; with `queue` it waits behind the running one. The header Idempotency-Key makes a retry safe."""

    description: str
    queue: bool = False


class CancelTask(msgspec.Struct, forbid_unknown_fields=True):
    """Which task; without one, the running one."""

    task_id: str | None = None


class AnswerAgent(msgspec.Struct, forbid_unknown_fields=True):
    """The answer to what is asked."""

    answer: str


class MergeWork(msgspec.Struct, forbid_unknown_fields=True):
    """How to bring the work home."""

    method: Literal["merge", "rebase"] = "merge"
    message: Annotated[str, msgspec.Meta(max_length=10_000)] = ""


class CollectGarbage(msgspec.Struct, forbid_unknown_fields=True):
    """Whether to remove what is left over, or only to tell."""

    dry_run: bool = True


class CancelAnswer(msgspec.Struct):
    """The task as it is now; null when the agent itself was still coming up and was called off."""

    task: Task | None
    called_off: bool


def _param(
    name: str, kind: type, default: Any, text: str, low: float | None = None, high: float | None = None
) -> web.Param:
    return web.Param(name, kind, default, text, minimum=low, maximum=high)


class HubApi:
    """The handlers, each one call of the hub's service."""

    def __init__(self, hub: Hub, closing: anyio.Event) -> None:
        self._hub = hub
        self._fleet = hub.fleet
        self._closing = closing

    def routes(self) -> list[web.Route]:
        """The table."""
        r = web.Route
        agent = "/api/agents/{name}"
        paging = (
            _param("page", int, 1, "page, from 1", 1, MAX_PAGE),
            _param("page_size", int, 20, "how many a page", 1, 100),
        )
        key = web.Param("Idempotency-Key", str, None, IDEMPOTENCY_MEANING, pattern=IDEMPOTENCY_KEY)
        log_paging = (paging[0], _param("page_size", int, 1, "how many a page", 1, 100))
        return [
            r("GET", "/api/hub", self.about, "Which hub this is", answer=HubFacts),
            r("GET", "/api/agents", self.list_agents, "The agents, oldest first", answer=AgentPage, query=(
                _param("status", str, None, "only those with this status"),
                _param("project", str, None, "only those of this project"),
                _param("metadata_filter", str, None, "only those whose facts match, as in pull_request_number=123"),
                _param("limit", int, 50, "how many at most", 1, 1000),
                _param("cursor", str, None, "next_cursor of the page before")), errors=(NotFound,)),
            r("POST", "/api/agents", self.create, "Create an agent; it comes up in the background", status=202,
              body=CreateAgent, answer=NewAgent, errors=(NotFound, Conflict, TooLarge, Unavailable)),
            r("GET", "/api/wait", self.wait, "What changed since a cursor; waits until something does",
              answer=Changes, query=(
                _param("agents", str, None, "names, separated by commas; all when left out"),
                _param("cursor", str, None, "the cursor of the answer before"),
                _param("timeout", float, 25.0, "seconds to wait at most", 0, MAX_WAIT_SECONDS)), errors=(NotFound,)),
            r("GET", agent, self.show, "All of one agent", answer=AgentDetail, errors=(NotFound,)),
            r("DELETE", agent, self.delete, "Delete an agent, busy or not; unsaved work is saved first",
              answer=Deleted, errors=(NotFound, Conflict, Unavailable), query=(
                  _param("wait", float, 20.0, "seconds to wait for the end", 0, MAX_WAIT_SECONDS),)),
            r("POST", agent + "/restart", self.restart, "Bring it back in a new incarnation, with its history",
              status=202, body=RestartAgent, answer=AgentSummary, errors=(NotFound, Conflict, Unavailable)),
            r("POST", agent + "/stop", self.stop, "End it but keep everything of it", status=202,
              answer=AgentSummary, errors=(NotFound, Conflict)),
            r("POST", agent + "/tasks", self.start_task, "Give a task", status=201, body=StartTask, answer=Task,
              headers=(key,), errors=(NotFound, Conflict, TooLarge, Unavailable)),
            r("GET", agent + "/tasks", self.history, "Its tasks, newest first, and the notes of their time",
              answer=TaskHistory, query=paging,
              errors=(NotFound, Unavailable)),
            r("POST", agent + "/cancel", self.cancel, "Cancel a task", status=202, body=CancelTask,
              answer=CancelAnswer, errors=(NotFound, Conflict, Unavailable)),
            r("GET", agent + "/log", self.log, "Its conversation and tool calls, newest first", answer=LogHistory,
              query=log_paging, errors=(NotFound, Unavailable)),
            r("POST", agent + "/attention/{id}", self.answer, "Answer what it asks", body=AnswerAgent,
              answer=Attention, errors=(NotFound, Conflict, Unavailable)),
            r("GET", agent + "/diff", self.diff, "Its work against its base", answer=AgentDiff, query=(
                _param("form", str, "stat", "stat or patch"),
                _param("max_bytes", int, 200_000, "where the text is cut", 1, MAX_DIFF_BYTES)),
              errors=(NotFound, Conflict)),
            r("POST", agent + "/merge", self.merge, "Bring its work home, checked", body=MergeWork, answer=AgentMerge,
              errors=(NotFound, Conflict)),
            r("GET", "/api/metadata", self.metadata, "The facts of all agents' workspaces", answer=list[Gathered]),
            r("GET", "/api/pull-requests", self.pull_requests, "The fleet by pull request", answer=PullRequests),
            r("GET", "/api/projects", self.projects, "The projects", answer=list[Project]),
            r("GET", "/api/projects/{project}/roles", self.roles, "The roles of a project", answer=list[Role],
              errors=(NotFound,)),
            r("POST", "/api/gc", self.gc, "Remove what is left over, never unsaved work", body=CollectGarbage,
              answer=list[Leftover]),
            r("GET", "/api/events", self.events, "What happens in the fleet, as server-sent events",
              media_type="text/event-stream"),
        ]  # fmt: skip

    async def about(self, call: web.Call) -> HubFacts:
        """`GET /api/hub`."""
        return self._hub.facts()

    async def list_agents(self, call: web.Call) -> AgentPage:
        """`GET /api/agents`."""
        q = call.query
        return await self._fleet.list_agents(
            status=q["status"],
            project=q["project"],
            metadata_filter=q["metadata_filter"],
            limit=q["limit"],
            cursor=q["cursor"],
        )

    async def create(self, call: web.Call) -> NewAgent:
        """`POST /api/agents`."""
        body: CreateAgent = call.body
        return await self._fleet.create(**{f: getattr(body, f) for f in body.__struct_fields__})

    async def wait(self, call: web.Call) -> Changes:
        """`GET /api/wait`."""
        names = call.query["agents"].split(",") if call.query["agents"] else None
        return await self._fleet.wait(names, call.query["cursor"], call.query["timeout"])

    async def show(self, call: web.Call) -> AgentDetail:
        """`GET /api/agents/{name}`."""
        return await self._fleet.show(call.path["name"])

    async def delete(self, call: web.Call) -> Deleted:
        """`DELETE /api/agents/{name}`."""
        return await self._hub.delete(call.path["name"], call.query["wait"])

    async def restart(self, call: web.Call) -> AgentSummary:
        """`POST /api/agents/{name}/restart`."""
        budget = call.body.budget or Budget()
        return await self._fleet.restart(call.path["name"], budget_usd=budget.usd, budget_tokens=budget.tokens)

    async def stop(self, call: web.Call) -> AgentSummary:
        """`POST /api/agents/{name}/stop`."""
        return await self._fleet.stop(call.path["name"])

    async def start_task(self, call: web.Call) -> Task:
        """`POST /api/agents/{name}/tasks`."""
        key = call.headers["Idempotency-Key"]
        body: StartTask = call.body
        return await self._fleet.start_task(
            call.path["name"], body.description, queue=body.queue, idempotency_key=key, origin="http"
        )

    async def history(self, call: web.Call) -> TaskHistory:
        """`GET /api/agents/{name}/tasks`."""
        return await self._fleet.history(call.path["name"], page=call.query["page"], page_size=call.query["page_size"])

    async def cancel(self, call: web.Call) -> CancelAnswer:
        """`POST /api/agents/{name}/cancel`."""
        task = await self._fleet.cancel_task(call.path["name"], call.body.task_id)
        return CancelAnswer(task=task, called_off=task is None)

    async def log(self, call: web.Call) -> LogHistory:
        """`GET /api/agents/{name}/log`."""
        return await self._fleet.log(call.path["name"], page=call.query["page"], page_size=call.query["page_size"])

    async def answer(self, call: web.Call) -> Attention:
        """`POST /api/agents/{name}/attention/{id}`."""
        return await self._fleet.answer(call.path["name"], call.path["id"], call.body.answer)

    async def diff(self, call: web.Call) -> AgentDiff:
        """`GET /api/agents/{name}/diff`."""
        return await self._hub.diff(call.path["name"], call.query["form"], call.query["max_bytes"])

    async def merge(self, call: web.Call) -> AgentMerge:
        """`POST /api/agents/{name}/merge`."""
        return await self._hub.merge(call.path["name"], call.body.method, call.body.message)

    async def metadata(self, call: web.Call) -> list[Gathered]:
        """`GET /api/metadata`."""
        return await self._fleet.gather_metadata()

    async def pull_requests(self, call: web.Call) -> PullRequests:
        """`GET /api/pull-requests`."""
        return await self._fleet.list_pull_requests()

    async def projects(self, call: web.Call) -> list[Project]:
        """`GET /api/projects`."""
        return await self._fleet.list_projects()

    async def roles(self, call: web.Call) -> list[Role]:
        """`GET /api/projects/{project}/roles`."""
        return self._fleet.roles(call.path["project"])

    async def gc(self, call: web.Call) -> list[Leftover]:
        """`POST /api/gc`."""
        return await self._hub.gc(dry_run=call.body.dry_run)

    async def events(self, call: web.Call) -> StreamingResponse:
        """`GET /api/events`."""
        return StreamingResponse(self._stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def _stream(self) -> AsyncIterator[bytes]:
        send, receive = anyio.create_memory_object_stream[Event](1000)

        def put(event: Event) -> None:
            # A reader this far behind is cut off rather than told half of it: it can ask again.
            try:
                send.send_nowait(event)
            except anyio.WouldBlock:
                send.close()
            except anyio.ClosedResourceError:
                pass

        end = self._fleet.bus.subscribe(put)
        try:
            yield b": connected\n\n"
            while not self._closing.is_set():
                event = None
                with anyio.move_on_after(_HEARTBEAT_SECONDS):
                    event = await receive.receive()
                if event is None:
                    yield b": alive\n\n"
                    continue
                yield b"event: %s\ndata: %s\n\n" % (type(event).__name__.encode(), msgspec.json.encode(asdict(event)))
        except anyio.EndOfStream:
            return
        finally:
            end()
            send.close()
            receive.close()


def document(table: list[web.Route]) -> dict[str, Any]:
    """The OpenAPI document of the hub."""
    if not table:
        raise InternalError("the hub has no routes")
    return openapi_of("Quarterdeck hub", __version__, "The fleet over HTTP; the same calls as the MCP tools.", table)
