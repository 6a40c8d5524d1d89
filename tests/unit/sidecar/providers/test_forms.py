from __future__ import annotations

from typing import Any

import pytest

from quarterdeck.errors import InvalidInput
from quarterdeck.sidecar.ports import Answer, Option
from quarterdeck.sidecar.providers.forms import fields


def form(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def test_a_form_without_fields_is_a_yes_or_no_question() -> None:
    (only,) = fields("Go on?", {})
    assert only.question == "Go on?"
    assert [option.id for option in only.options()] == ["true", "false"]


def test_the_free_text_beside_a_choice_is_no_question_of_its_own() -> None:
    schema = form(
        colour={"type": "string", "oneOf": [{"const": "r", "title": "Red"}, {"const": "b", "title": "Blue"}]},
        colour_custom={"type": "string"},
    )
    (only,) = fields("Which?", schema)
    assert only.options() == (Option("r", "Red"), Option("b", "Blue"))
    for answer, expected in [
        (Answer(option_id="b"), {"colour": "b"}),
        (Answer(text="Red"), {"colour": "r"}),
        (Answer(text="mauve"), {"colour_custom": "mauve"}),
    ]:
        content: dict[str, Any] = {}
        only.fill(content, answer)
        assert content == expected


def test_several_fields_are_asked_one_by_one() -> None:
    schema = form(name={"type": "string", "title": "Your name"}, age={"type": "integer"}, sure={"type": "boolean"})
    asked = fields("Who are you?", schema)
    assert [field.question for field in asked] == ["Who are you?\nYour name", "age", "sure"]
    content: dict[str, Any] = {}
    for field, words in zip(asked, ["Ann", "42", "yes"], strict=True):
        field.fill(content, Answer(text=words))
    assert content == {"name": "Ann", "age": 42, "sure": True}


def test_a_number_must_be_one_that_json_knows() -> None:
    (only,) = fields("?", form(x={"type": "number"}))
    for words in ("nan", "inf", "1e999"):
        with pytest.raises(InvalidInput):
            only.fill({}, Answer(text=words))


@pytest.mark.parametrize("kind", ["integer", "number", "boolean"])
def test_an_answer_of_the_wrong_kind_is_refused(kind: str) -> None:
    (only,) = fields("?", form(x={"type": kind}))
    with pytest.raises(InvalidInput):
        only.fill({}, Answer(text="perhaps"))


def test_many_of_a_list_can_be_chosen() -> None:
    (only,) = fields("?", form(x={"type": "array", "items": {"enum": ["a", "b"], "enumNames": ["Ay", "Bee"]}}))
    content: dict[str, Any] = {}
    only.fill(content, Answer(text="Ay, b"))
    assert content == {"x": ["a", "b"]}
    only.fill(content, Answer(option_ids=("b", "a")))
    assert content == {"x": ["b", "a"]}
    only.fill(content, Answer(option_id="b"))
    assert content == {"x": ["b"]}
    with pytest.raises(InvalidInput, match="'c' is none of what"):
        only.fill(content, Answer(text="a, c"))


def test_a_value_outside_of_a_choice_is_refused() -> None:
    (only,) = fields("?", form(x={"type": "string", "enum": ["a", "b"]}))
    with pytest.raises(InvalidInput):
        only.fill({}, Answer(text="c"))
