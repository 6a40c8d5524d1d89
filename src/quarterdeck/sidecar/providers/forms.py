"""ACP elicitation forms as questions: a form is asked field by field, in words. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from quarterdeck.errors import InvalidInput
from quarterdeck.sidecar.ports import Answer, Option

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a form; `other` is the field beside a choice that takes any words instead."""

    name: str
    question: str
    schema: Schema
    other: str | None = None

    @property
    def multiple(self) -> bool:
        """Whether it takes a list of values."""
        return self.schema.get("type") == "array"

    def options(self) -> tuple[Option, ...]:
        """The values to choose from; empty where anything may be said."""
        if self.schema.get("type") == "boolean":
            return (Option("true", "Yes"), Option("false", "No"))
        items = self.schema.get("items")
        source = items if isinstance(items, Mapping) else self.schema
        titled = [
            Option(str(choice["const"]), str(choice.get("title") or choice["const"]))
            for choice in source.get("oneOf") or source.get("anyOf") or []
            if isinstance(choice, Mapping) and "const" in choice
        ]
        values = [str(value) for value in source.get("enum") or []]
        names = [str(name) for name in source.get("enumNames") or []]
        names += values[len(names) :]
        return (*titled, *map(Option, values, names))

    def fill(self, content: dict[str, Any], answer: Answer) -> None:
        """Put the answer where it belongs. Raises `InvalidInput` when it is not what the field takes."""
        words = answer.text if answer.option_id is None and not answer.option_ids else None
        try:
            content[self.name] = self.value(answer)
        except InvalidInput:
            if not (self.other and words):
                raise
            content[self.other] = words

    def value(self, answer: Answer) -> Any:
        """What the answer means for this field. Raises `InvalidInput` when it is not what the field takes."""
        kind = self.schema.get("type")
        given = answer.option_id if answer.option_id is not None else answer.text or ""
        if kind == "array" and (chosen := answer.option_ids or (answer.option_id and (answer.option_id,))):
            return [self._chosen(option) for option in chosen]
        try:
            if kind == "array":
                parts = json.loads(given) if given.startswith("[") else given.split(",")
                return [self._chosen(str(part).strip()) for part in parts]
            if kind == "boolean":
                return {"true": True, "yes": True, "false": False, "no": False}[given.strip().lower()]
            if kind == "integer":
                return int(given)
            if kind == "number":
                if not math.isfinite(number := float(given)):
                    raise ValueError  # JSON knows no such number
                return number
        except (ValueError, KeyError) as error:
            raise InvalidInput(f"{given!r} is no {kind}, which {self.name!r} takes") from error
        return self._chosen(given)

    def _chosen(self, word: str) -> str:
        """The value that a word means: an option's, where there are options."""
        options = self.options()
        by_word = {option.name: option.id for option in options} | {option.id: option.id for option in options}
        if options and word not in by_word:
            raise InvalidInput(f"{word!r} is none of what {self.name!r} takes", hint=f"one of: {', '.join(by_word)}")
        return by_word.get(word, word)


def fields(message: str, schema: Any) -> list[Field]:
    """The fields of a requested form; a form without any is one yes-or-no question."""
    schema = schema if isinstance(schema, Mapping) else {}
    properties = schema.get("properties")
    required = schema.get("required") or []
    if not isinstance(properties, Mapping) or not properties:
        return [Field("", message, {"type": "boolean"})]
    found: list[Field] = []
    for name, taken in properties.items():
        taken = taken if isinstance(taken, Mapping) else {}
        field = Field(str(name), "", taken)
        if found and found[-1].options() and not found[-1].other and _any_words(field) and name not in required:
            found[-1] = replace(found[-1], other=field.name)
        else:
            found.append(field)
    if len(found) == 1:
        return [replace(found[0], question=message)]
    about = [str(f.schema.get("description") or f.schema.get("title") or f.name) for f in found]
    about[0] = f"{message}\n{about[0]}"
    return [replace(field, question=question) for field, question in zip(found, about, strict=True)]


def _any_words(field: Field) -> bool:
    return field.schema.get("type") == "string" and not field.options()
