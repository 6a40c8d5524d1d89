"""What is asked of people: permission requests and questions, open until answered or withdrawn."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import anyio

from quarterdeck.errors import Conflict, InvalidInput, NotFound
from quarterdeck.sidecar.model import Attention, AttentionOption
from quarterdeck.sidecar.ports import Answer, Option, Permission, Question
from quarterdeck.sidecar.store import Store

_YES = frozenset({"allow", "yes", "y", "approve", "ok"})
_NO = frozenset({"deny", "no", "n", "reject", "decline"})
_TITLE_CHARACTERS = 2000
_DETAIL_CHARACTERS = 8000
_CUT = "\n[cut: there is more than is shown here]"


def parse_answer(attention: Attention, text: str) -> Answer:
    """What a person's word means for this question: an option's id or name, yes or no, or free text.

    Where several options may be chosen they come with commas between, or as a JSON list.
    Raises `InvalidInput` that lists the options when it is none of them and free text is not taken.
    """
    word = text.strip()
    if not word:
        raise InvalidInput("the answer is empty", hint=_choices(attention))
    if (one := _option(attention, word)) is not None:
        return Answer(option_id=one)
    if attention.multiple:
        several = [_option(attention, part) for part in _parts(word)]
        chosen = tuple(dict.fromkeys(option for option in several if option is not None))
        if chosen and None not in several:
            return Answer(option_ids=chosen)
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
    if attention.kind == "permission" or (attention.options and not attention.free_text):
        raise InvalidInput(f"{word!r} is not one of the answers", hint=_choices(attention))
    return Answer(text=text)


def _option(attention: Attention, word: str) -> str | None:
    """The id of the option that this means: exactly, else whatever the case of its letters."""
    for option in attention.options:
        if word in (option.id, option.name):
            return option.id
    low = word.lower()
    return next((o.id for o in attention.options if low in (o.id.lower(), o.name.lower())), None)


def _parts(text: str) -> list[str]:
    """The words of a list, as JSON or with commas between."""
    if text.startswith("["):
        try:
            return [str(part).strip() for part in json.loads(text)]
        except ValueError:
            pass
    return [part.strip() for part in text.split(",") if part.strip()]


def _whole_or_marked(text: str, limit: int) -> str:
    """The text; a longer one is cut and says so, for nobody may take its beginning for all that is asked."""
    return text if len(text) <= limit else text[: limit - len(_CUT)] + _CUT


def _choices(attention: Attention) -> str:
    named = [f"{o.id} ({o.name})" for o in attention.options]
    if attention.kind == "permission":
        named = ["allow", "deny", *named]
    if not named:
        return "answer with: any text"
    several = " (several with commas between)" if attention.multiple else ""
    return "answer with: " + ", ".join(named) + several + (", or any text" if attention.free_text else "")


class Asker(Protocol):
    """The part of `ports.Provider` that takes answers."""

    def check_answer(self, request_id: str, answer: Answer) -> None:
        """As `ports.Provider.check_answer`."""
        ...

    async def answer(self, request_id: str, answer: Answer) -> None:
        """As `ports.Provider.answer`."""
        ...


class Desk:
    """The open questions of one agent."""

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
            attention = replace(
                self._attention("question", update.text, "", update.options, task_id),
                free_text=update.free_text or not update.options,
                multiple=update.multiple,
            )
        self._requests[update.request_id] = attention.id
        self._add(attention, incarnation)

    def ask_human(self, question: str, options: list[str], *, incarnation: int, task_id: str | None) -> str:
        """The agent asks through its MCP tool; the id to wait for."""
        choices = tuple(AttentionOption(id=str(n), name=name) for n, name in enumerate(options, 1))
        attention = replace(self._attention("question", question, "", choices, task_id), free_text=not choices)
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
                     asker: Asker | None) -> Attention:  # fmt: skip
        """Answer what is open under this id; `asker` is the program that waits, where one does.

        Raises `NotFound`, `Conflict` when it is closed already or nobody waits for it any more, and
        `InvalidInput` when the text is no answer: it stays open then.
        """
        attention = self._open.get(attention_id)
        if attention is None:
            earlier, because = self._store.attention_end(attention_id)
            raise Conflict(f"this was closed before: {because or earlier}")
        answer = parse_answer(attention, text)
        request_id = next((r for r, a in self._requests.items() if a == attention_id), None)
        if request_id is not None:
            self._check(asker, attention, request_id, answer)
        # Recorded before it is handed over: an answer must not be given twice.
        self._close(attention_id, incarnation, answer=self._words(attention, answer))
        if request_id is not None and asker is not None:
            try:
                await asker.answer(request_id, answer)
            except NotFound as error:
                raise Conflict(f"the agent no longer waits for this: {error.message}") from error
        return attention

    @staticmethod
    def _check(asker: Asker | None, attention: Attention, request_id: str, answer: Answer) -> None:
        """Let the program's own protocol look at it before it is recorded: what that refuses is no answer."""
        try:
            if asker is None:
                raise NotFound("the agent's program is gone")
            asker.check_answer(request_id, answer)
        except NotFound as error:
            raise Conflict(f"the agent no longer waits for this: {error.message}") from error
        except InvalidInput as error:
            raise InvalidInput(f"{error.message}; it is still asked", hint=error.hint or _choices(attention)) from error

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
            title=_whole_or_marked(title, _TITLE_CHARACTERS),
            detail=_whole_or_marked(detail, _DETAIL_CHARACTERS),
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
        chosen = answer.option_ids if answer.option_id is None else (answer.option_id,)
        named = [option.name for option in attention.options if option.id in chosen]
        if named:
            return ", ".join(named)
        return "declined" if answer.declined else "allowed"
