"""The MCP server that the sidecar gives its own agent. FastMCP is imported when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import anyio
from anyio.abc import TaskStatus
from anyio.to_thread import run_sync
from starlette.types import ASGIApp, Receive, Scope, Send

from quarterdeck import web
from quarterdeck.errors import Conflict, InvalidInput, QuarterdeckError
from quarterdeck.metadata.service import MetadataService
from quarterdeck.sidecar.app import make_report
from quarterdeck.sidecar.session import Session

if TYPE_CHECKING:
    from fastmcp import FastMCP

INCARNATION_HEADER = b"qd-incarnation"
MAX_ASK_SECONDS = 50.0


class LazyMcp:
    """An ASGI application that becomes the MCP server at the first request (FastMCP costs 45 MB and 0.3 s)."""

    def __init__(self, session: Session, metadata: MetadataService) -> None:
        self._session = session
        self._metadata = metadata
        self._app: ASGIApp | None = None
        self._lock = anyio.Lock()
        self._wanted = anyio.Event()
        self._ready = anyio.Event()

    async def run(self) -> None:
        """Hold the server's own lifespan, from the first request until cancelled."""
        await self._wanted.wait()
        app = await run_sync(self._make)
        async with app.router.lifespan_context(app):
            self._app = app
            self._ready.set()
            await anyio.sleep_forever()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; those of an earlier incarnation are refused."""
        if scope["type"] != "http":
            return
        given = dict(scope["headers"]).get(INCARNATION_HEADER)
        if given is not None and given != str(self._session.incarnation).encode():
            stale = Conflict(
                f"this is incarnation {self._session.incarnation} of the agent, not {given.decode('latin-1')}"
            )
            await web.error_response(stale)(scope, receive, send)
            return
        self._wanted.set()
        await self._ready.wait()
        assert self._app is not None
        # The inner application has one route, "/"; the mount's prefix is not its business.
        await self._app({**scope, "path": "/", "raw_path": b"/", "root_path": ""}, receive, send)

    def _make(self) -> Any:
        from fastmcp import FastMCP

        from quarterdeck.metadata import mcp as metadata_tools

        server: FastMCP[Any] = FastMCP(
            f"quarterdeck-{self._session.spec.name}",
            instructions="Report what you do with report_task, ask people with ask_human, and keep facts about "
            "this workspace with set_metadata.",
            mask_error_details=True,
        )
        metadata_tools.register(server, self._metadata, report=self._report)
        self._register_ask(server)
        return server.http_app(path="/", stateless_http=True, json_response=True)

    async def _report(self, summary: str, state: str, link: str | None) -> None:
        self._session.report(make_report(summary, state, link))

    def _register_ask(self, server: FastMCP[Any]) -> None:
        from fastmcp.exceptions import ToolError
        from pydantic import Field

        session = self._session

        async def ask_human(
            question: Annotated[str, Field(description="What you need to know or have decided")],
            options: Annotated[
                list[str] | None, Field(description="The possible answers, where there are some")
            ] = None,
            question_id: Annotated[str | None, Field(description="To go on waiting for an earlier question")] = None,
            wait_seconds: Annotated[float, Field(description="How long to wait now", ge=0, le=MAX_ASK_SECONDS)] = 45,
        ) -> dict[str, Any]:
            """Ask the people in charge and wait for the answer.

            When nobody answered in time, call it again with the question_id, or go on without.
            """
            try:
                if question_id is None:
                    if not question.strip():
                        raise InvalidInput("the question is empty")
                    task = session.turns.current
                    question_id = session.desk.ask_human(
                        question, options or [], incarnation=session.incarnation, task_id=task.id if task else None
                    )
                answer = await session.desk.human_answer(question_id, wait_seconds)
            except QuarterdeckError as error:
                raise ToolError(f"{error.code}: {error.message}. {error.hint}") from error
            return {"question_id": question_id, "answered": answer is not None, "answer": answer}

        server.tool(
            ask_human,
            annotations={
                "readOnlyHint": False,
                "destructiveHint": False,
                "idempotentHint": False,
                "openWorldHint": True,
            },
        )


async def hold(mcp: LazyMcp, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
    """Run the lazy server's lifespan as a task."""
    task_status.started()
    await mcp.run()
