"""What Claude Code asks: whether it may use a tool, and questions to a person (its tool AskUserQuestion)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from anyio.abc import TaskGroup

from quarterdeck.errors import InvalidInput, NotFound
from quarterdeck.sidecar.ports import Answer, Launch, Option, Permission, Question, Update, Withdrawn
from quarterdeck.sidecar.providers import workspace
from quarterdeck.sidecar.providers.claude_messages import shown, title_of

Message = dict[str, Any]
_EDITS = {"Write": "file_path", "Edit": "file_path", "MultiEdit": "file_path", "NotebookEdit": "notebook_path"}
_ALLOW, _ALWAYS, _REJECT = "allow", "always", "reject"


@dataclass
class _Open:
    """A request that waits for somebody; several questions of one request are asked one by one."""

    control_id: str
    given: Mapping[str, Any]
    suggestions: list[Any] = field(default_factory=list)
    questions: list[Mapping[str, Any]] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)


class ToolRequests:
    """Answers what it may by itself, and keeps what waits for somebody.

    `say` takes our updates, `respond` sends the answer of a control request and never raises.
    """

    def __init__(
        self,
        launch: Launch,
        tasks: TaskGroup,
        say: Callable[[Update], None],
        respond: Callable[[str, Message], Coroutine[Any, Any, None]],
    ) -> None:
        self._launch = launch
        self._tasks = tasks
        self._say = say
        self._respond = respond
        self._asked = 0
        self._open: dict[str, _Open] = {}

    def can_use_tool(self, control_id: str, request: Mapping[str, Any]) -> None:
        """Take a `can_use_tool` request."""
        name = str(request.get("tool_name", ""))
        given = request.get("input")
        given = given if isinstance(given, Mapping) else {}
        if name == "AskUserQuestion":
            questions = [q for q in given.get("questions") or [] if isinstance(q, Mapping)]
            if questions:
                self._ask_question(_Open(control_id, given, questions=questions))
                return
        if self._allowed(name, given):
            self._tasks.start_soon(self._respond, control_id, _allow(given))
            return
        # Only what ends with the session: another rule would be written into the user's settings.
        suggestions = [
            s
            for s in request.get("permission_suggestions") or []
            if isinstance(s, Mapping) and s.get("destination") == "session"
        ]
        options = [Option(_ALLOW, "Allow", "allow_once")]
        if suggestions:
            options.append(Option(_ALWAYS, "Allow for this session", "allow_always"))
        options.append(Option(_REJECT, "Reject", "reject_once"))
        request_id = self._remember(_Open(control_id, given, suggestions=suggestions))
        self._say(Permission(request_id, title_of(name, given), shown(given), tuple(options)))

    def _allowed(self, name: str, given: Mapping[str, Any]) -> bool:
        level, mcp = self._launch.permissions, self._launch.mcp
        if level == "allow" or (mcp is not None and name.startswith(f"mcp__{mcp.name}__")):
            return True
        path = given.get(_EDITS.get(name, ""))
        return level == "edits" and bool(path) and workspace.is_inside(self._launch.cwd, str(path))

    def _ask_question(self, request: _Open) -> None:
        question = request.questions[0]
        options = tuple(
            Option(str(option.get("label", "")), _named(option))
            for option in question.get("options") or []
            if isinstance(option, Mapping)
        )
        several = question.get("multiSelect") is True
        words = str(question.get("question", ""))
        # Claude Code itself always offers "Other" beside the options.
        self._say(Question(self._remember(request), words, options, free_text=True, multiple=several))

    def _remember(self, request: _Open) -> str:
        self._asked += 1
        request_id = f"ask-{self._asked}"
        self._open[request_id] = request
        return request_id

    def check_answer(self, request_id: str, answer: Answer) -> None:
        """Raise as `answer` would; nothing is changed."""
        request = self._waiting(request_id)
        _result(replace(request, questions=[*request.questions], answers={**request.answers}), answer)

    async def answer(self, request_id: str, answer: Answer) -> None:
        """Give somebody's answer. Raises `NotFound`, and `InvalidInput` for what is no answer to it."""
        request = self._waiting(request_id)
        result = _result(request, answer)
        del self._open[request_id]
        if result is None:
            self._ask_question(request)
        else:
            await self._respond(request.control_id, result)

    def _waiting(self, request_id: str) -> _Open:
        request = self._open.get(request_id)
        if request is None:
            raise NotFound(f"nothing is asked with the id {request_id!r}; it was answered or withdrawn")
        return request

    def cancelled(self, control_id: str) -> None:
        """The program does not wait for this one any more."""
        for request_id, request in list(self._open.items()):
            if request.control_id == control_id:
                del self._open[request_id]
                self._say(Withdrawn(request_id))

    def withdraw(self) -> None:
        """Nobody waits for an answer any more."""
        for request_id in list(self._open):
            del self._open[request_id]
            self._say(Withdrawn(request_id))


def _named(option: Mapping[str, Any]) -> str:
    label, about = str(option.get("label", "")), str(option.get("description") or "")
    return f"{label}: {about}" if about and about != label else label


def _allow(given: Mapping[str, Any]) -> Message:
    return {"behavior": "allow", "updatedInput": dict(given)}


def _result(request: _Open, answer: Answer) -> Message | None:
    """What to answer; None when another question is still to be asked."""
    # An option of a question may be called like one of ours.
    if answer.declined or (answer.option_id == _REJECT and not request.questions):
        words = f": {answer.text}" if answer.text else ""
        return {"behavior": "deny", "message": f"A person declined this{words}"}
    return _question_answer(request, answer) if request.questions else _permission_answer(request, answer)


def _permission_answer(request: _Open, answer: Answer) -> Message:
    if answer.option_id == _ALLOW:
        return _allow(request.given)
    if answer.option_id == _ALWAYS and request.suggestions:
        return {**_allow(request.given), "updatedPermissions": request.suggestions}
    known = [_ALLOW, _ALWAYS, _REJECT] if request.suggestions else [_ALLOW, _REJECT]
    said = answer.option_id or answer.text
    raise InvalidInput(f"{said!r} is no way to answer this", hint=f"one of: {', '.join(known)}")


def _question_answer(request: _Open, answer: Answer) -> Message | None:
    """What to answer; None when another question is still to be asked."""
    words = answer.option_id if answer.option_id is not None else answer.text or ", ".join(answer.option_ids)
    if not words:
        raise InvalidInput("an answer is needed", hint="an option's id, or any text")
    question = request.questions.pop(0)
    request.answers[str(question.get("question", ""))] = words
    if request.questions:
        return None
    return {"behavior": "allow", "updatedInput": {**request.given, "answers": request.answers}}
