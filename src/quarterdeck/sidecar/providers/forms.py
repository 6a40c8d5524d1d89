"""ACP elicitation forms as questions: a form is asked field by field, in words. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quarterdeck.errors import InvalidInput
from quarterdeck.sidecar.ports import Answer, Option

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a form."""

    name: str
    question: str
    schema: Schema
    required: bool

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

    def value(self, answer: Answer) -> Any:
        """What the answer means for this field. Raises `InvalidInput` when it is not what the field takes."""
        given = answer.option_id if answer.option_id is not None else answer.text or ""
        kind = self.schema.get("type")
        by_name = {option.name: option.id for option in self.options()}
        try:
            if kind == "array":
                parts = json.loads(given) if given.startswith("[") else given.split(",")
                return [by_name.get(str(part).strip(), str(part).strip()) for part in parts]
            if kind == "boolean":
                return {"true": True, "yes": True, "false": False, "no": False}[given.strip().lower()]
            if kind == "integer":
                return int(given)
            if kind == "number":
                return float(given)
        except (ValueError, KeyError) as error:
            raise InvalidInput(f"{given!r} is no {kind}, which {self.name!r} takes") from error
        return by_name.get(given, given)


def fields(message: str, schema: Any) -> list[Field]:
    """The fields of a requested form; a form without any is one yes-or-no question."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    required = schema.get("required") or [] if isinstance(schema, Mapping) else []
    if not isinstance(properties, Mapping) or not properties:
        return [Field("", message, {"type": "boolean"}, required=True)]
    found: list[Field] = []
    for name, field in properties.items():
        field = field if isinstance(field, Mapping) else {}
        about = field.get("description") or field.get("title") or name
        question = message if len(properties) == 1 else f"{message}\n{about}" if not found else str(about)
        found.append(Field(str(name), question, field, required=name in required))
    return found
