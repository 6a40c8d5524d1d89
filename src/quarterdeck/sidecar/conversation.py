"""Writes what an agent says into its log and its events, pieces of text gathered into few writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from quarterdeck.sidecar import ports
from quarterdeck.sidecar.store import Store

FLUSH_SECONDS = 0.1
_FLUSH_CHARACTERS = 4096


class Conversation:
    """The recorder of one incarnation's updates. `flush` must be called now and then, and before other writes."""

    def __init__(self, store: Store, incarnation: int) -> None:
        self._store = store
        self._incarnation = incarnation
        self._pending: ports.Text | None = None
        self._task_id: str | None = None
        self._titles: dict[str, str] = {}
        self.tools_open: set[str] = set()

    def keep(self) -> Callable[[], None]:
        """What puts the text that waits back, for a transaction that fails."""
        waiting, task_id, tools = self._pending, self._task_id, set(self.tools_open)

        def restore() -> None:
            self._pending, self._task_id, self.tools_open = waiting, task_id, tools

        return restore

    @property
    def pending(self) -> bool:
        """Whether text waits for a flush."""
        return self._pending is not None

    def record(self, update: ports.Update, task_id: str | None) -> None:
        """Write one update of the kinds text, tool call, plan, usage, state and noise."""
        if isinstance(update, ports.Text):
            self._text(update, task_id)
            return
        self.flush()
        match update:
            case ports.ToolCall():
                self._tool(update, task_id)
            case ports.Plan():
                entries = [{"text": text, "status": status} for text, status in update.entries]
                lines = "\n".join(f"[{entry['status']}] {entry['text']}" for entry in entries)
                self._both("plan", lines, {"entries": entries}, task_id, ref=f"plan:{task_id}")
            case ports.State():
                self._store.add_event("state", asdict(update), incarnation=self._incarnation, task_id=task_id)
            case ports.Usage():
                self._store.add_event("usage", asdict(update), incarnation=self._incarnation, task_id=task_id)
            case ports.Noise():
                self._both("noise", update.text, {}, task_id)
            case _:
                pass

    def flush(self) -> None:
        """Write the text that waits."""
        waiting = self._pending
        if waiting is None:
            return
        kind = "thought" if waiting.thought else "text"
        with self._store.transaction():
            self._store.add_event(
                kind,
                {"message_id": waiting.message_id, "text": waiting.text},
                incarnation=self._incarnation,
                task_id=self._task_id,
            )
            self._store.log(
                kind,
                waiting.text,
                incarnation=self._incarnation,
                task_id=self._task_id,
                ref=f"{kind}:{waiting.message_id}",
                append=True,
            )
        self._pending = None

    def turn_over(self) -> None:
        """No tool is open any more, whatever was or was not said of it."""
        self.flush()
        self.tools_open.clear()
        self._titles.clear()

    def _text(self, update: ports.Text, task_id: str | None) -> None:
        waiting = self._pending
        same = (
            waiting is not None
            and (waiting.message_id, waiting.thought) == (update.message_id, update.thought)
            and self._task_id == task_id
        )
        if not same:
            self.flush()
        self._task_id = task_id
        text = (waiting.text if same and waiting else "") + update.text
        self._pending = ports.Text(update.message_id, text, update.thought)
        if len(text) >= _FLUSH_CHARACTERS:
            self.flush()

    def _tool(self, update: ports.ToolCall, task_id: str | None) -> None:
        if update.status in ("completed", "failed"):
            self.tools_open.discard(update.call_id)
        else:
            self.tools_open.add(update.call_id)
        if update.title:
            self._titles[update.call_id] = update.title
        data = {key: value for key, value in asdict(update).items() if value is not None}
        for key in ("input", "output"):
            if isinstance(data.get(key), str):
                data[key] = data[key][:16_384]
        self._both("tool", self._titles.get(update.call_id, ""), data, task_id, ref=f"tool:{update.call_id}")

    def _both(self, kind: str, text: str, data: dict[str, Any], task_id: str | None, *, ref: str | None = None) -> None:
        with self._store.transaction():
            event = {**data, "text": text[:2000]} if text else data
            self._store.add_event(kind, event, incarnation=self._incarnation, task_id=task_id)
            self._store.log(kind, text, incarnation=self._incarnation, task_id=task_id, ref=ref, data=data)
