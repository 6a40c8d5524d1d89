"""A person's answer that the agent's own protocol refuses: nothing is closed, and the agent is still asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from quarterdeck.errors import Conflict, InvalidInput
from quarterdeck.sidecar.model import Attention
from quarterdeck.sidecar.session import Session
from support.session import give, living, new_session, until

pytestmark = pytest.mark.anyio


async def _asked(session: Session) -> Attention:
    await until(lambda: session.desk.open)
    return session.desk.open[0]


def _said(session: Session) -> str:
    return "".join(entry.text for entry in session.store.log_entries(before=None, offset=0, limit=9)[0])


async def test_a_refused_answer_leaves_the_question_open(tmp_path: Path) -> None:
    async with living(new_session(tmp_path)) as session:
        task = give(session, '@form How many?|{"number": {"type": "integer"}}')
        asked = await _asked(session)
        with pytest.raises(InvalidInput, match=r"'about three' is no integer.*it is still asked"):
            await session.answer(asked.id, "about three")
        assert session.desk.open == [asked]
        assert session.store.attention_end(asked.id) == (None, None), "also for who reads it after a crash"
        assert await session.answer(asked.id, "3") == asked
        await until(lambda: session.store.task(task.id).state == "succeeded")
        assert any(
            'accept {"number": 3}' in e.text for e in session.store.log_entries(before=None, offset=0, limit=9)[0]
        )
        with pytest.raises(Conflict, match="closed before: 3"):
            await session.answer(asked.id, "4")


@pytest.mark.parametrize(
    ("properties", "answer", "content"),
    [
        ('{"v": {"enum": ["A", "B"], "type": "string"}, "o": {"type": "string"}}', "neither, take C",
         '{"o": "neither, take C"}'),
        ('{"v": {"type": "array", "items": {"enum": ["A", "B"]}}}', "A,B", '{"v": ["A", "B"]}'),
        ('{"v": {"type": "array", "items": {"enum": ["A", "B"]}}}', '["A","B"]', '{"v": ["A", "B"]}'),
        ('{"v": {"type": "array", "items": {"type": "string"}}}', "x, y", '{"v": ["x", "y"]}'),
    ],
)  # fmt: skip
async def test_free_text_and_several_choices_reach_the_agent(
    tmp_path: Path, properties: str, answer: str, content: str
) -> None:
    async with living(new_session(tmp_path)) as session:
        task = give(session, f"@form Which?|{properties}")
        await session.answer((await _asked(session)).id, answer)
        await until(lambda: session.store.task(task.id).state == "succeeded")
        assert f"form: accept {content}" in _said(session)


async def test_what_is_too_long_to_be_shown_says_so(tmp_path: Path) -> None:
    async with living(new_session(tmp_path, permissions="ask")) as session:
        give(session, f"@ask {'x' * 3000}")
        asked = await _asked(session)
        assert len(asked.title) == 2000
        assert asked.title.endswith("x\n[cut: there is more than is shown here]")
