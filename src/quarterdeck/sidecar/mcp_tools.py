"""The tools that the sidecar gives its own agent. Imports FastMCP: only `mcp.LazyMcp` may import this."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from quarterdeck import __version__
from quarterdeck.errors import InvalidInput, QuarterdeckError
from quarterdeck.metadata import mcp as metadata_tools
from quarterdeck.metadata.service import MetadataService
from quarterdeck.sidecar.app import make_report
from quarterdeck.sidecar.session import Session

MAX_ASK_SECONDS = 50.0


def make_server(session: Session, metadata: MetadataService) -> FastMCP[Any]:
    """The server with `report_task`, `ask_human` and the metadata tools."""
    server: FastMCP[Any] = FastMCP(
        f"quarterdeck-{session.spec.name}",
        version=__version__,
        instructions="Report what you do with report_task, ask people with ask_human, and keep facts about "
        "this workspace with set_metadata.",
        mask_error_details=True,
    )
    metadata_tools.register(server, metadata)

    @server.tool(annotations=_hints(idempotent=True))
    async def report_task(
        summary: Annotated[str, Field(description="What you are doing or have done, at most 160 characters")],
        state: Annotated[
            Literal["working", "idle", "complete", "failure"], Field(description="Where the task stands")
        ] = "working",
        link: Annotated[
            str | None, Field(description="Where the result can be seen, if anywhere; at most 2048 characters")
        ] = None,
    ) -> dict[str, Any]:
        """Tell the people in charge, in one line, how the current task goes."""
        try:
            report = session.report(make_report(summary, state, link))
        except QuarterdeckError as error:
            raise _told(error) from error
        return asdict(report)

    @server.tool(annotations=_hints(open_world=True))
    async def ask_human(
        question: Annotated[str, Field(description="What you need to know or have decided")],
        options: Annotated[list[str] | None, Field(description="The possible answers, where there are some")] = None,
        question_id: Annotated[str | None, Field(description="To go on waiting for an earlier question")] = None,
        wait_seconds: Annotated[float, Field(description="How long to wait now", ge=0, le=MAX_ASK_SECONDS)] = 45,
    ) -> dict[str, Any]:
        """Ask the people in charge and wait for the answer.

        When nobody answered in time, call it again with the question_id, or go on without; with a
        closed_because no answer will come any more.
        """
        try:
            if question_id is None:
                if not question.strip():
                    raise InvalidInput("the question is empty")
                task = session.turns.current
                question_id = session.desk.ask_human(
                    question, options or [], incarnation=session.incarnation, task_id=task.id if task else None
                )
            answer, closed = await session.desk.human_answer(question_id, wait_seconds)
        except QuarterdeckError as error:
            raise _told(error) from error
        found = {"question_id": question_id, "answered": answer is not None, "answer": answer}
        return {**found, "closed_because": closed} if closed is not None else found

    return server


def _told(error: QuarterdeckError) -> ToolError:
    return ToolError(f"{error.code}: {error.message}" + (f". Hint: {error.hint}" if error.hint else ""))


def _hints(*, idempotent: bool = False, open_world: bool = False) -> ToolAnnotations:
    return ToolAnnotations(
        read_only_hint=False, destructive_hint=False, idempotent_hint=idempotent, open_world_hint=open_world
    )
