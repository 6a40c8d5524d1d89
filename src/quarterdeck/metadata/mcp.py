"""The MCP tools on an agent's metadata, for whichever FastMCP server wants them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import msgspec

from quarterdeck import __version__
from quarterdeck.errors import QuarterdeckError

if TYPE_CHECKING:
    from fastmcp import FastMCP
    from starlette.types import ASGIApp

    from quarterdeck.metadata.service import MetadataService

ReportTask = Callable[[Mapping[str, Any]], Awaitable[Any]]
TASK_STATES = ("started", "succeeded", "failed")


def register(mcp: FastMCP[Any], service: MetadataService, report_task: ReportTask | None = None) -> None:
    """Add `get_metadata`, `set_metadata`, `delete_metadata`, and `report_task` where there is somebody to tell.

    `report_task` is called with `{"state", "title", "progress", "note"}`, only what was given.
    """
    from fastmcp.exceptions import ToolError
    from mcp.types import ToolAnnotations

    def told(error: QuarterdeckError) -> ToolError:
        return ToolError(error.message + (f" Hint: {error.hint}" if error.hint else ""))

    reads = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
    writes = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
    deletes = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)

    @mcp.tool(annotations=reads)
    async def get_metadata(
        keys: list[str] | None = None, prefix: str | None = None, source: str | None = None, fresh: bool = False
    ) -> dict[str, Any]:
        """Facts about this workspace: git state, pull request, current task, and what was stored.

        Filter by keys, prefix or source (stored, git, github, ...). fresh=true collects now instead of
        answering what is known. Each entry has value, error, source, age_seconds, stale and schema.
        """
        answer = await service.read(source=source, prefix=prefix, keys=keys, fresh=fresh)
        built: dict[str, Any] = msgspec.to_builtins(answer)
        return built

    @mcp.tool(annotations=writes)
    async def set_metadata(values: dict[str, Any]) -> dict[str, Any]:
        """Store facts (key to JSON value) for everybody who looks at this agent; all or nothing, durable.

        Keys match [A-Za-z0-9][A-Za-z0-9._/-]*, at most 256 characters; a value has at most 4096 bytes.
        Collected facts (git_*, pull_request_*, ...) cannot be overwritten.
        """
        try:
            done: dict[str, Any] = msgspec.to_builtins(await service.write(values))
        except QuarterdeckError as error:
            raise told(error) from None
        return done

    @mcp.tool(annotations=deletes)
    async def delete_metadata(key: str) -> dict[str, Any]:
        """Delete one stored fact; deleted=false means that it was not there."""
        try:
            return {"key": key, "deleted": await service.delete(key)}
        except QuarterdeckError as error:
            raise told(error) from None

    if report_task is None:
        return

    @mcp.tool(name="report_task", annotations=writes)
    async def report(
        state: str | None = None, title: str | None = None, progress: str | None = None, note: str | None = None
    ) -> dict[str, Any]:
        """Say how the current task goes: state (started, succeeded or failed), a title, progress, a note.

        What is left out stays as it was; another title, or started, begins anew. It is told as task_title,
        task_state, task_progress, task_note.
        """
        if state is not None and state not in TASK_STATES:
            raise ToolError(f"{state!r} is not a state to report; use one of {', '.join(TASK_STATES)}")
        given = {"state": state, "title": title, "progress": progress, "note": note}
        report = {name: value for name, value in given.items() if value is not None}
        if not report:
            raise ToolError("nothing was reported; give at least one of state, title, progress, note")
        try:
            await report_task(report)
        except QuarterdeckError as error:
            raise told(error) from None
        return {"reported": report}


async def standalone(service: MetadataService, group: anyio.abc.TaskGroup) -> ASGIApp:
    """The ASGI app of a FastMCP server with only these tools, running until `group` is cancelled."""
    from fastmcp import FastMCP

    mcp: FastMCP[Any] = FastMCP("quarterdeck-metadata", version=__version__, mask_error_details=True)
    register(mcp, service, service.report_task)
    app = mcp.http_app(path="/mcp", stateless_http=True, transport="streamable-http")

    async def live(*, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        # Entered and left in one task, as its cancel scopes demand; requests come in others.
        async with app.lifespan(app):
            task_status.started()
            await anyio.sleep_forever()

    await group.start(live, name="metadata-mcp")
    return app
