"""What an ACP agent asks of its client: permissions, forms, and files of the workspace."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from anyio.abc import TaskGroup
from anyio.to_thread import run_sync

from quarterdeck.errors import InvalidInput, NotFound, QuarterdeckError
from quarterdeck.sidecar.ports import Answer, Launch, Option, Permission, Question, Update, Withdrawn
from quarterdeck.sidecar.providers import forms, workspace
from quarterdeck.sidecar.providers.acp_updates import shown
from quarterdeck.sidecar.providers.acp_wire import METHOD_NOT_FOUND, Message, error_answer

_EDIT_KINDS = frozenset({"edit", "read"})


@dataclass
class _Open:
    """A request that waits for somebody's answer; a form is asked field by field."""

    number: Any
    options: tuple[Option, ...] = ()
    fields: list[forms.Field] = field(default_factory=list)
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def is_form(self) -> bool:
        return bool(self.fields)


class Requests:
    """Answers what it may by itself, and keeps what waits for somebody.

    `say` takes our updates, `send` writes a message and never raises.
    """

    def __init__(
        self,
        launch: Launch,
        tasks: TaskGroup,
        say: Callable[[Update], None],
        send: Callable[[Message], Coroutine[Any, Any, None]],
    ) -> None:
        self._launch = launch
        self._tasks = tasks
        self._say = say
        self._send = send
        self._asked = 0
        self._open: dict[str, _Open] = {}

    def handle(self, method: str, number: Any, params: Message, *, cancelled: bool = False) -> None:
        """Take a request of the agent. In a turn that was cancelled nobody is asked any more."""
        if cancelled and method in ("session/request_permission", "elicitation/create"):
            result = _cancelled(is_form=method == "elicitation/create")
            self._tasks.start_soon(self._send, {"id": number, "result": result})
        elif method == "session/request_permission":
            self._on_permission(number, params)
        elif method == "elicitation/create":
            self._on_elicitation(number, params)
        elif method in ("fs/read_text_file", "fs/write_text_file"):
            self._tasks.start_soon(self._on_file, number, method, params)
        else:
            error = {"code": METHOD_NOT_FOUND, "message": f"Method not found: {method}"}
            self._tasks.start_soon(self._send, {"id": number, "error": error})

    def check_answer(self, request_id: str, answer: Answer) -> None:
        """Raise as `answer` would; nothing is changed."""
        request = self._waiting(request_id)
        _result(replace(request, fields=[*request.fields], content={**request.content}), answer)

    async def answer(self, request_id: str, answer: Answer) -> None:
        """Give somebody's answer to the agent. Raises `NotFound`, and `InvalidInput` for what is no answer to it."""
        request = self._waiting(request_id)
        result = _result(request, answer)
        del self._open[request_id]
        if result is None:
            self._ask_field(request)
        else:
            await self._send({"id": request.number, "result": result})

    async def cancel(self) -> None:
        """The turn is being cancelled: answer everything `cancelled`, as the protocol asks for."""
        waiting = list(self._open.values())
        self.withdraw()
        for request in waiting:
            await self._send({"id": request.number, "result": _cancelled(is_form=request.is_form)})

    def withdraw(self) -> None:
        """Nobody waits for an answer any more."""
        for request_id in list(self._open):
            del self._open[request_id]
            self._say(Withdrawn(request_id))

    def _waiting(self, request_id: str) -> _Open:
        request = self._open.get(request_id)
        if request is None:
            raise NotFound(f"nothing is asked with the id {request_id!r}; it was answered or withdrawn")
        return request

    def _remember(self, request: _Open) -> str:
        self._asked += 1
        request_id = f"ask-{self._asked}"
        self._open[request_id] = request
        return request_id

    # --- permissions -------------------------------------------------------------------------------

    def _on_permission(self, number: Any, params: Message) -> None:
        call = params.get("toolCall")
        call = call if isinstance(call, Mapping) else {}
        options = tuple(
            Option(str(o.get("optionId")), str(o.get("name", "")), str(o.get("kind", "choice")))
            for o in params.get("options") or []
            if isinstance(o, Mapping)
        )
        if (chosen := self._allowed(call, options)) is not None:
            self._tasks.start_soon(self._send, {"id": number, "result": _selected(chosen)})
            return
        given = call.get("rawInput")
        request_id = self._remember(_Open(number, options=options))
        title = str(call.get("title") or "a tool call")
        self._say(Permission(request_id, title, "" if given is None else shown(given), options))

    def _allowed(self, call: Mapping[str, Any], options: tuple[Option, ...]) -> str | None:
        """The option to choose by ourselves; None when somebody must be asked."""
        level = self._launch.permissions
        if not (level == "allow" or self._is_our_tool(call) or (level == "edits" and self._edits_inside(call))):
            return None
        # Once, not always: the agent would write the latter into its settings.
        return _of_kind(options, "allow_once", "allow_always")

    def _is_our_tool(self, call: Mapping[str, Any]) -> bool:
        """Whether it is a tool of the sidecar's own MCP server, which needs nobody's leave."""
        if self._launch.mcp is None or call.get("kind") == "execute":
            return False
        # Older agents tell the tool's name in the title only; that of a command could be anything.
        name = str(call.get("name") or call.get("title") or "")
        return re.fullmatch(rf"mcp__{re.escape(self._launch.mcp.name)}__\w+", name) is not None

    def _edits_inside(self, call: Mapping[str, Any]) -> bool:
        diffs = [i for i in call.get("content") or [] if isinstance(i, Mapping) and i.get("type") == "diff"]
        places = [*(call.get("locations") or []), *diffs]
        paths = [str(place["path"]) for place in places if isinstance(place, Mapping) and place.get("path")]
        return (
            call.get("kind") in _EDIT_KINDS
            and bool(paths)
            and all(workspace.is_inside(self._launch.cwd, path) for path in paths)
        )

    # --- forms -------------------------------------------------------------------------------------

    def _on_elicitation(self, number: Any, params: Message) -> None:
        if params.get("mode", "form") != "form":
            self._tasks.start_soon(self._send, {"id": number, "result": {"action": "decline"}})
            return
        asked = forms.fields(str(params.get("message", "")), params.get("requestedSchema"))
        self._ask_field(_Open(number, fields=asked))

    def _ask_field(self, request: _Open) -> None:
        first = request.fields[0]
        self._say(
            Question(
                self._remember(request),
                first.question,
                first.options(),
                free_text=first.other is not None or not first.options(),
                multiple=first.multiple,
            )
        )

    # --- files -------------------------------------------------------------------------------------

    async def _on_file(self, number: Any, method: str, params: Message) -> None:
        root, path = self._launch.cwd, str(params.get("path", ""))
        result: Message = {}
        try:
            if method == "fs/write_text_file":
                await run_sync(workspace.write_text, root, path, str(params.get("content", "")))
            else:
                line, limit = params.get("line"), params.get("limit")
                text = await run_sync(lambda: workspace.read_text(root, path, line=line, limit=limit))
                result = {"content": text}
        except (QuarterdeckError, OSError, ValueError, TypeError) as error:
            await self._send({"id": number, "error": error_answer(error)})
        else:
            await self._send({"id": number, "result": result})


def _result(request: _Open, answer: Answer) -> Message | None:
    return _form_result(request, answer) if request.is_form else _permission_result(request, answer)


def _permission_result(request: _Open, answer: Answer) -> Message:
    chosen = answer.option_id
    if answer.declined:
        # Without a way to say no, only the protocol's "cancelled" is left.
        rejected = _of_kind(request.options, "reject_once", "reject_always")
        return _cancelled(is_form=False) if rejected is None else _selected(rejected)
    known = [option.id for option in request.options]
    if chosen not in known:
        raise InvalidInput(f"{chosen or answer.text!r} is no way to answer this", hint=f"one of: {', '.join(known)}")
    return _selected(chosen)


def _form_result(request: _Open, answer: Answer) -> Message | None:
    """What to answer to the form; None when another field is still to be asked."""
    if answer.declined:
        return {"action": "decline"}
    first = request.fields[0]
    if not first.name:
        return {"action": "accept", "content": {}} if first.value(answer) else {"action": "decline"}
    first.fill(request.content, answer)
    if len(request.fields) > 1:
        request.fields.pop(0)
        return None
    return {"action": "accept", "content": request.content}


def _cancelled(*, is_form: bool) -> Message:
    return {"action": "cancel"} if is_form else {"outcome": {"outcome": "cancelled"}}


def _selected(option: str) -> Message:
    return {"outcome": {"outcome": "selected", "optionId": option}}


def _of_kind(options: tuple[Option, ...], *kinds: str) -> str | None:
    return next((option.id for kind in kinds for option in options if option.kind == kind), None)
