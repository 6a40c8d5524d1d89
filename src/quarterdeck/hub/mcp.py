"""The hub's MCP tools: flat parameters, typed results, errors with a code, a message and a hint.

Every tool makes one call of the fleet or the hub. What takes long goes on when the client is gone; what
waits takes a cursor and ends within 25 seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, Literal, TypeVar

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError, ValidationError
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from mcp.types import ToolAnnotations
from pydantic import Field
from pydantic import ValidationError as PydanticValidationError

from quarterdeck import __version__
from quarterdeck.errors import InternalError, InvalidInput, QuarterdeckError
from quarterdeck.fleet.collecting import PullRequests
from quarterdeck.fleet.looking import MAX_PAGE, LogHistory, TaskHistory
from quarterdeck.fleet.model import AgentDetail, AgentPage, AgentSummary, NewAgent
from quarterdeck.fleet.projects import Project, Role
from quarterdeck.fleet.roster import Changes
from quarterdeck.fleet.work import MAX_DIFF_BYTES, AgentDiff, AgentMerge
from quarterdeck.hub.service import Deleted, Hub
from quarterdeck.sidecar.model import Attention, Status, Task

log = logging.getLogger(__name__)
R = TypeVar("R")
_INSTRUCTIONS = (
    "Quarterdeck runs a fleet of coding agents, each in a git worktree on a branch of its own. Create agents with "
    "create_agent, give them work with start_agent_task, follow them with wait_for_agents (pass the cursor on), answer "
    "what they ask with answer_agent, look at their work with show_agent_diff and bring it home with merge_agent_work."
)

AgentName = Annotated[str, Field(description="The agent's name")]
Page = Annotated[int, Field(description="Page, counted from 1", ge=1, le=MAX_PAGE)]
_ANSWER = (
    "An option's id or name; allow or deny for a permission; several options with commas between where `multiple` is "
    "true; free text where `free_text` is true"
)
_READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
_ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=True)
_SAFE = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
_ENDS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)


@dataclass(frozen=True, kw_only=True)
class Projects:
    """The projects in which agents can be created; the first is the default."""

    projects: list[Project]


@dataclass(frozen=True, kw_only=True)
class Roles:
    """The roles that an agent can have in a project."""

    roles: list[Role]


@dataclass(frozen=True, kw_only=True)
class MetadataWritten:
    """That a fact is stored; `created` is false when it replaced one."""

    agent: str
    key: str
    created: bool


@dataclass(frozen=True, kw_only=True)
class MetadataDeleted:
    """That a fact is not stored any more."""

    agent: str
    key: str


@dataclass(frozen=True, kw_only=True)
class Canceled:
    """The task as it is now; null when the agent itself was still coming up and was called off."""

    task: Task | None
    called_off: bool


def told(error: QuarterdeckError) -> ToolError:
    """An error as a client sees it: `CODE: message` and a hint, its own or what helps with every such error."""
    code = error.code if error.code in _CODES else "INVALID_INPUT" if error.exit_code == 2 else "INTERNAL_ERROR"
    return ToolError(f"{code}: {error.message}\nHint: {error.hint or _CODES[code]}")


# Each code, and what helps where the error itself names nothing better.
_CODES = {
    "INVALID_INPUT": "tools/list says what the tool takes",
    "NOT_FOUND": "list_agents tells which agents there are, and with status_filter deleted which there were",
    "CONFLICT": "show_agent tells what the agent does now, wait_for_agents when that changes",
    "UNAVAILABLE": "show_agent tells why; restart_agent brings back an agent that has ended",
    "INTERNAL_ERROR": "show_agent tells how the agent is; what went wrong is in the hub's log",
}


def _translated(tool: Callable[..., Awaitable[R]]) -> Callable[..., Awaitable[R]]:
    @wraps(tool)
    async def call(*args: Any, **kwargs: Any) -> R:
        try:
            return await tool(*args, **kwargs)
        except QuarterdeckError as error:
            raise told(error) from error
        except Exception as error:
            # FastMCP would mask it without any code; what went wrong is for the log.
            log.exception("the tool %s failed", tool.__name__)
            hint = "the agents are not touched by it; `qd status` tells how the hub is"
            raise told(
                InternalError("something went wrong inside; the hub's log has the details", hint=hint)
            ) from error

    return call


class _InvalidArguments(Middleware):
    """Tells arguments that the schema refuses as our own errors are told: by a code, a message and a hint."""

    async def on_call_tool(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        """Pass the call on; translate the refusal."""
        try:
            return await call_next(context)
        except ValidationError as error:
            cause = error.__cause__
            if not isinstance(cause, PydanticValidationError):
                raise told(InvalidInput(str(error))) from error
            wrong = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in cause.errors(include_url=False)]
            raise told(InvalidInput("; ".join(wrong), hint="tools/list says what the tool takes")) from error


def make_server(hub: Hub) -> FastMCP[Any]:
    """The MCP server over a hub's service; it answers every protocol revision that FastMCP knows."""
    server: FastMCP[Any] = FastMCP(
        "quarterdeck", version=__version__, instructions=_INSTRUCTIONS, mask_error_details=True
    )
    server.add_middleware(_InvalidArguments())
    _add_fleet(server, hub)
    _add_tasks(server, hub)
    _add_work(server, hub)
    return server


def _add_fleet(server: FastMCP[Any], hub: Hub) -> None:
    fleet = hub.fleet

    @server.tool(annotations=_ADDS)
    @_translated
    async def create_agent(
        name: Annotated[
            str | None, Field(description="1 to 20 letters, digits and hyphens, unique; made up when left out")
        ] = None,
        project: Annotated[str | None, Field(description="Project; the default one when left out")] = None,
        role: Annotated[
            str, Field(description="What it is for: coder, operator, manager, or one of the project")
        ] = "coder",
        spec: Annotated[str, Field(description="Standing instructions, told to the AI before its first task")] = "",
        task: Annotated[str | None, Field(description="A first task, given as soon as the agent is up")] = None,
        provider: Annotated[
            str | None, Field(description="Which AI program: claude-code, codex, gemini, opencode, scripted, ...")
        ] = None,
        workspace: Annotated[str | None, Field(description="Name of an agent whose workspace to share")] = None,
    ) -> NewAgent:
        """Create a coding agent in a git worktree of its own. Returns at once; it comes up in the background.

        `notes` say what to know of its start, as that the repository has changes which the agent does not see.
        Follow it with wait_for_agents until its status is idle, or busy with its first task.
        """
        return await fleet.create(
            name=name, project=project, role=role, spec=spec, task=task, provider=provider, workspace=workspace
        )

    @server.tool(annotations=_READS)
    @_translated
    async def list_agents(
        status_filter: Annotated[Status | None, Field(description="Only agents with this status")] = None,
        project_filter: Annotated[str | None, Field(description="Only agents of this project")] = None,
        metadata_filter: Annotated[
            str | None, Field(description="Only agents whose facts match, as in pull_request_number=123 or git_dirty")
        ] = None,
        limit: Annotated[int, Field(description="How many at most", ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Field(description="next_cursor of the page before")] = None,
    ) -> AgentPage:
        """The agents with status, activity, task, and what their workspaces say. An unreachable one says why."""
        return await fleet.list_agents(
            status=status_filter, project=project_filter, metadata_filter=metadata_filter, limit=limit, cursor=cursor
        )

    @server.tool(annotations=_READS)
    @_translated
    async def show_agent(agent_name: AgentName) -> AgentDetail:
        """All of one agent: status, what it asks, workspace, branch, spec, incarnation, usage, every metadata key."""
        return await fleet.show(agent_name)

    @server.tool(annotations=_ENDS)
    @_translated
    async def delete_agent(agent_name: AgentName) -> Deleted:
        """Delete an agent, also a busy one. Unsaved work is committed to a rescue ref first, which the answer names.

        Call it again when done is false; for an agent that is deleted already it names that ref, too.
        """
        return await hub.delete(agent_name, 20)

    @server.tool(annotations=_SAFE)
    @_translated
    async def restart_agent(
        agent_name: AgentName,
        budget_usd: Annotated[float | None, Field(description="New limit of all its cost, in US dollars", gt=0)] = None,
        budget_tokens: Annotated[int | None, Field(description="New limit of all its tokens", gt=0)] = None,
    ) -> AgentSummary:
        """Bring an agent back in a new incarnation with its history; a task that is running is canceled, not repeated.

        When its sidecar is dead already, what was running is lost. One that has used up its budget needs a larger one.
        """
        return await fleet.restart(agent_name, budget_usd=budget_usd, budget_tokens=budget_tokens)

    @server.tool(annotations=_READS)
    @_translated
    async def wait_for_agents(
        agent_names: Annotated[list[str] | None, Field(description="Only these; all when left out")] = None,
        cursor: Annotated[str | None, Field(description="The cursor of the answer before; none to begin")] = None,
        timeout_seconds: Annotated[float, Field(description="How long to wait for a change", ge=0, le=25)] = 25,
    ) -> Changes:
        """What changed since a cursor, and the cursor to pass next. Without a cursor: how things are now, at once."""
        return await fleet.wait(agent_names, cursor, timeout_seconds)

    @server.tool(annotations=_SAFE)
    @_translated
    async def set_agent_metadata(
        agent_name: AgentName,
        key: Annotated[str, Field(description="Letters, digits and ._/-, at most 256 characters")],
        value: Annotated[Any, Field(description="Text, or any JSON of at most 4 KB")],
    ) -> MetadataWritten:
        """Store a fact about an agent's workspace. A collected fact (git_*, pull_request_*) cannot be overwritten."""
        created = await fleet.set_metadata(agent_name, key, value)
        return MetadataWritten(agent=agent_name, key=key, created=created)

    @server.tool(annotations=_ENDS)
    @_translated
    async def delete_agent_metadata(
        agent_name: AgentName, key: Annotated[str, Field(description="The key of a stored fact")]
    ) -> MetadataDeleted:
        """Delete a stored fact; that it was not there is no error."""
        await fleet.delete_metadata(agent_name, key)
        return MetadataDeleted(agent=agent_name, key=key)

    @server.tool(annotations=_READS)
    @_translated
    async def list_pull_requests() -> PullRequests:
        """The fleet by pull (merge) request: number, agents on it, checks, reviews, and how old that knowledge is."""
        return await fleet.list_pull_requests()

    @server.tool(annotations=_READS)
    @_translated
    async def list_agent_projects() -> Projects:
        """The projects in which agents can be created, and what is wrong with one that cannot be used."""
        return Projects(projects=await fleet.list_projects())

    @server.tool(annotations=_READS)
    @_translated
    async def list_agent_roles(
        project: Annotated[str | None, Field(description="Project; the default one when left out")] = None,
    ) -> Roles:
        """The roles that an agent can have in a project, with the prompt that its AI is given."""
        return Roles(roles=fleet.roles(project))


def _add_tasks(server: FastMCP[Any], hub: Hub) -> None:
    fleet = hub.fleet

    @server.tool(annotations=_ADDS)
    @_translated
    async def start_agent_task(
        agent_name: AgentName,
        task_description: Annotated[str, Field(description="What is to be done")],
        queue: Annotated[bool, Field(description="Wait behind the running task instead of being refused")] = False,
        idempotency_key: Annotated[
            str | None, Field(description="The same key again returns the same task; printable ASCII, at most 255")
        ] = None,
    ) -> Task:
        """Give an agent a task. CONFLICT when it is busy, unless queue=true."""
        return await fleet.start_task(
            agent_name, task_description, queue=queue, idempotency_key=idempotency_key, origin="mcp"
        )

    @server.tool(annotations=_ENDS)
    @_translated
    async def cancel_agent_task(
        agent_name: AgentName,
        task_id: Annotated[str | None, Field(description="Which task; the running one when left out")] = None,
    ) -> Canceled:
        """Cancel a task: interrupted in the agent's protocol, ended by force when that is not obeyed."""
        task = await fleet.cancel_task(agent_name, task_id)
        return Canceled(task=task, called_off=task is None)

    @server.tool(annotations=_READS)
    @_translated
    async def show_agent_task_history(
        agent_name: AgentName,
        page: Page = 1,
        page_size: Annotated[int, Field(description="Tasks a page", ge=1, le=100)] = 20,
    ) -> TaskHistory:
        """An agent's tasks, newest first, with the time of every step; `notes` tell what happened beside them."""
        return await fleet.history(agent_name, page=page, page_size=page_size)

    @server.tool(annotations=_READS)
    @_translated
    async def show_agent_log(
        agent_name: AgentName,
        page: Page = 1,
        page_size: Annotated[int, Field(description="Entries a page", ge=1, le=100)] = 1,
    ) -> LogHistory:
        """An agent's conversation and tool calls, newest first."""
        return await fleet.log(agent_name, page=page, page_size=page_size)

    @server.tool(annotations=_ADDS)
    @_translated
    async def answer_agent(
        agent_name: AgentName,
        attention_id: Annotated[str, Field(description="The id in needs_attention")],
        answer: Annotated[str, Field(description=_ANSWER)],
    ) -> Attention:
        """Answer a permission request or a question of an agent."""
        return await fleet.answer(agent_name, attention_id, answer)


def _add_work(server: FastMCP[Any], hub: Hub) -> None:
    @server.tool(annotations=_READS)
    @_translated
    async def show_agent_diff(
        agent_name: AgentName,
        form: Annotated[Literal["stat", "patch"], Field(description="A summary, or the whole patch")] = "stat",
        max_bytes: Annotated[int, Field(description="Where the text is cut", ge=1, le=MAX_DIFF_BYTES)] = 60_000,
    ) -> AgentDiff:
        """An agent's work against its base, uncommitted files included."""
        return await hub.diff(agent_name, form, max_bytes)

    @server.tool(annotations=_ADDS)
    @_translated
    async def merge_agent_work(
        agent_name: AgentName,
        method: Annotated[
            Literal["merge", "rebase"], Field(description="A merge commit, or replayed commits")
        ] = "merge",
        message: Annotated[str, Field(description="Message of the merge commit", max_length=10_000)] = "",
    ) -> AgentMerge:
        """Bring an agent's commits home to the base branch, after the project's check passed in a scratch worktree.

        A conflict or a failing check changes nothing and names the files or the output. A call that is given up
        does not end the merge: last_merge of show_agent tells what became of it.
        """
        return await hub.merge(agent_name, method, message)
