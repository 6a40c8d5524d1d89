"""What is asked of people: permission requests and questions, open until answered or withdrawn."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence

import anyio

from quarterdeck.errors import Conflict, InvalidInput, NotFound
from quarterdeck.sidecar.model import Attention, AttentionOption
from quarterdeck.sidecar.ports import Answer, Option, Permission, Question
from quarterdeck.sidecar.store import Store

_YES = frozenset({"allow", "yes", "y", "approve", "ok"})
_NO = frozenset({"deny", "no", "n", "reject", "decline"})


def parse_answer(attention: Attention, text: str) -> Answer:
    """What a person's word means for this question: an option's id or name, yes or no, or free text.

    Raises `InvalidInput` that lists the options when it is none of them.
    """
    word = text.strip()
    if not word:
        raise InvalidInput("the answer is empty", hint=_choices(attention))
    for option in attention.options:
        if word in (option.id, option.name) or word.lower() in (option.id.lower(), option.name.lower()):
            return Answer(option_id=option.id)
    if attention.kind == "permission":
        wanted = "allow" if word.lower() in _YES else "reject" if word.lower() in _NO else None
        if wanted is not None:
            fitting = sorted(
                (o for o in attention.options if o.kind.startswith(wanted)), key=lambda o: o.kind.endswith("always")
            )
            if fitting:
                return Answer(option_id=fitting[0].id)
            if wanted == "reject":
                return Answer(declined=True)
    if attention.options or attention.kind == "permission":
        raise InvalidInput(f"{word!r} is not one of the answers", hint=_choices(attention))
    return Answer(text=text)


def _choices(attention: Attention) -> str:
    named = [f"{o.id} ({o.name})" for o in attention.options]
    if attention.kind == "permission":
        named = ["allow", "deny", *named]
    return "answer with: " + (", ".join(named) if named else "any text")


class Desk:
    """The open questions of one agent. `reply` hands an answer to the agent's program."""

    def __init__(self, store: Store, changed: Callable[[], None], clock: Callable[[], float]) -> None:
        self._store = store
        self._changed = changed
        self._clock = clock
        self._open: dict[str, Attention] = {}
        self._requests: dict[str, str] = {}
        self._human: dict[str, anyio.Event] = {}

    def keep(self) -> Callable[[], None]:
        """What puts the open questions back, for a transaction that fails."""
        kept, requests, human = dict(self._open), dict(self._requests), dict(self._human)

        def restore() -> None:
            self._open, self._requests, self._human = kept, requests, human

        return restore

    @property
    def open(self) -> list[Attention]:
        """What is asked now, oldest first."""
        return list(self._open.values())

    def asked(self, update: Permission | Question, *, incarnation: int, task_id: str | None) -> None:
        """The program asks through its protocol."""
        if isinstance(update, Permission):
            attention = self._attention("permission", update.title, update.detail, update.options, task_id)
        else:
            attention = self._attention("question", update.text, "", update.options, task_id)
        self._requests[update.request_id] = attention.id
        self._add(attention, incarnation)

    def ask_human(self, question: str, options: list[str], *, incarnation: int, task_id: str | None) -> str:
        """The agent asks through its MCP tool; the id to wait for."""
        choices = tuple(AttentionOption(id=str(n), name=name) for n, name in enumerate(options, 1))
        attention = self._attention("question", question, "", choices, task_id)
        self._human[attention.id] = anyio.Event()
        self._add(attention, incarnation)
        return attention.id

    async def human_answer(self, attention_id: str, timeout_seconds: float) -> tuple[str | None, str | None]:
        """Wait for an answer to `ask_human`: the answer, and why none can come any more; None and None when none
        came in time. Raises `NotFound`.
        """
        waiting = self._human.get(attention_id)
        if waiting is not None:
            with anyio.move_on_after(timeout_seconds):
                await waiting.wait()
        return self._store.attention_end(attention_id)

    async def answer(self, attention_id: str, text: str, *, incarnation: int,
                     reply: Callable[[str, Answer], Awaitable[None]]) -> Attention:  # fmt: skip
        """Answer what is open under this id.

        Raises `NotFound`, `Conflict` when it is closed already, `InvalidInput` when the text is no answer.
        """
        attention = self._open.get(attention_id)
        if attention is None:
            earlier, because = self._store.attention_end(attention_id)
            raise Conflict(f"this was closed before: {because or earlier}")
        answer = parse_answer(attention, text)
        request_id = next((r for r, a in self._requests.items() if a == attention_id), None)
        # Recorded before it is handed over: an answer must not be given twice.
        self._close(attention_id, incarnation, answer=self._words(attention, answer))
        if request_id is not None:
            try:
                await reply(request_id, answer)
            except NotFound as error:
                raise Conflict(f"the agent no longer waits for this: {error.message}") from error
        return attention

    def withdrawn(self, request_id: str, *, incarnation: int) -> None:
        """The program asks no longer."""
        attention_id = self._requests.get(request_id)
        if attention_id in self._open:
            self._close(attention_id, incarnation, because="withdrawn by the agent")

    def close_all(self, reason: str, *, incarnation: int) -> None:
        """The turn or the life is over: nothing asked in it can be answered any more."""
        for attention_id in list(self._open):
            self._close(attention_id, incarnation, because=reason)

    def _attention(
        self, kind: str, title: str, detail: str, options: Sequence[Option | AttentionOption], task_id: str | None
    ) -> Attention:
        return Attention(
            id=uuid.uuid4().hex[:12],
            kind="permission" if kind == "permission" else "question",
            title=title[:2000],
            detail=detail[:8000],
            options=[AttentionOption(id=o.id, name=o.name, kind=o.kind) for o in options],
            asked_at=self._clock(),
            task_id=task_id,
        )

    def _add(self, attention: Attention, incarnation: int) -> None:
        self._store.open_attention(attention, incarnation=incarnation)
        self._open[attention.id] = attention
        self._changed()

    def _close(
        self, attention_id: str, incarnation: int, *, answer: str | None = None, because: str | None = None
    ) -> None:
        self._store.close_attention(attention_id, answer=answer, because=because, incarnation=incarnation)
        self._open.pop(attention_id, None)
        for request_id in [r for r, a in self._requests.items() if a == attention_id]:
            del self._requests[request_id]
        waiting = self._human.pop(attention_id, None)
        if waiting is not None:
            waiting.set()
        self._changed()

    @staticmethod
    def _words(attention: Attention, answer: Answer) -> str:
        if answer.text is not None:
            return answer.text
        for option in attention.options:
            if option.id == answer.option_id:
                return option.name
        return "declined" if answer.declined else "allowed"
