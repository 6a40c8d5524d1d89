"""Between the model's dataclasses and the messages of `quarterdeck.node.v1`, without loss.

Every message has the fields of its dataclass under the same names, so one generic pair of functions does
them all. What differs between Python and protobuf:

* a `Literal` is an enum (`on-failure` is `RESTART_ON_FAILURE`); an unspecified one takes the field's default;
* a field that protobuf marks `optional` and that is absent takes the field's default;
* a mapping of anything (an event's details) is a JSON object in a string.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal, TypeVar

import msgspec
from google.protobuf.message import Message

from quarterdeck.errors import InvalidInput
from quarterdeck.node import model, results
from quarterdeck.node.proto import model_pb2, results_pb2

T = TypeVar("T")
M = TypeVar("M", bound=Message)
# Mutation is not here: its actor is who the token says, never what a message says.
_NOT_ON_THE_WIRE = {"Mutation", "Operation", "Planned", "Problem"}


def to_wire(value: Any) -> Any:
    """The message of a dataclass. Raises `InvalidInput` for a value that the wire cannot carry (a number too large)."""
    message = message_class(type(value))()
    fill(message, value)
    return message


def fill(message: Message, value: Any) -> None:
    """Set a message's fields from a dataclass of the same shape. Raises `InvalidInput` as `to_wire`."""
    try:
        for field in _fields(typing.cast(Hashable, type(value))):
            field.write(message, getattr(value, field.name))
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInput(f"{type(value).__name__} cannot be sent: {error}") from error


def from_wire(message: Message, kind: type[T]) -> T:
    """The dataclass of a message. Raises `InvalidInput` naming what is not set and has no default."""
    values = {}
    for field in _fields(typing.cast(Hashable, kind)):
        value = field.read(message)
        if value is not _ABSENT:
            values[field.name] = value
    return kind(**values)


def message_class(kind: type) -> type[Message]:
    """The message class of a dataclass."""
    module = model_pb2 if kind.__module__ == model.__name__ else results_pb2
    return typing.cast("type[Message]", getattr(module, kind.__name__))


def wire_kinds() -> list[type]:
    """Every dataclass that has a message."""
    return [
        each
        for module in (model, results)
        for each in vars(module).values()
        if dataclasses.is_dataclass(each) and isinstance(each, type) and each.__module__ == module.__name__
        and each.__name__ not in _NOT_ON_THE_WIRE
    ]  # fmt: skip


_ABSENT: Any = object()


@dataclasses.dataclass(frozen=True)
class _Field:
    """How one field goes to and from a message."""

    name: str
    write: Callable[[Message, Any], None]
    read: Callable[[Message], Any]


@functools.cache
def _fields(kind: Hashable) -> tuple[_Field, ...]:
    assert isinstance(kind, type)
    hints = typing.get_type_hints(kind)
    described = message_class(kind).DESCRIPTOR.fields_by_name
    return tuple(_field(kind, f, hints[f.name], described[f.name]) for f in dataclasses.fields(kind))


def _field(kind: type, field: dataclasses.Field[Any], hint: Any, wire: Any) -> _Field:
    name = field.name
    inner, may_be_none = _without_none(hint)
    required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    origin = typing.get_origin(inner)
    if origin is tuple:
        return _sequence(name, typing.get_args(inner)[0])
    if origin in (Mapping, dict):
        return _mapping(name, wire)
    if origin is Literal:
        return _enum(kind, name, typing.get_args(inner), wire.enum_type, required)
    if dataclasses.is_dataclass(inner):
        return _nested(kind, name, typing.cast("type", inner), required and not may_be_none)
    return _scalar(name, inner, wire.has_presence)


def _without_none(hint: Any) -> tuple[Any, bool]:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        inner = [each for each in typing.get_args(hint) if each is not type(None)]
        return inner[0], True
    return hint, False


def _sequence(name: str, item: Any) -> _Field:
    if dataclasses.is_dataclass(item):
        cls = typing.cast("type", item)

        def write(message: Message, value: Any) -> None:
            target = getattr(message, name)
            for each in value:
                fill(target.add(), each)

        return _Field(name, write, lambda m: tuple(from_wire(each, cls) for each in getattr(m, name)))
    return _Field(name, lambda m, v: getattr(m, name).extend(v), lambda m: tuple(getattr(m, name)))


def _mapping(name: str, wire: Any) -> _Field:
    if wire.message_type is not None:
        return _Field(name, lambda m, v: getattr(m, name).update(v), lambda m: dict(getattr(m, name)))

    def write(message: Message, value: Any) -> None:
        if value:
            setattr(message, name, msgspec.json.encode(value).decode())

    def read(message: Message) -> Any:
        text = getattr(message, name)
        try:
            return msgspec.json.decode(text, type=dict[str, Any]) if text else {}
        except msgspec.DecodeError as error:
            raise InvalidInput(f"{name} is not a JSON object: {error}") from error

    return _Field(name, write, read)


def _enum(kind: type, name: str, words: tuple[str, ...], enum: Any, required: bool) -> _Field:
    # The name of the value 0 is PREFIX_UNSPECIFIED (buf holds that).
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    number_of = {word: enum.values_by_name[prefix + word.upper().replace("-", "_")].number for word in words}
    word_of = {number: word for word, number in number_of.items()}

    def read(message: Message) -> Any:
        number = getattr(message, name)
        if number in word_of:
            return word_of[number]
        if number == 0 and not required:
            return _ABSENT
        raise InvalidInput(
            f"{kind.__name__}.{name} is {f'the unknown value {number}' if number else 'not set'}",
            hint=f"one of {', '.join(words)}",
        )

    def write(message: Message, value: Any) -> None:
        if value not in number_of:
            raise ValueError(f"{name} is {value!r}, not one of {', '.join(words)}")
        setattr(message, name, number_of[value])

    return _Field(name, write, read)


def _nested(kind: type, name: str, inner: type, required: bool) -> _Field:
    def write(message: Message, value: Any) -> None:
        if value is not None:
            target = getattr(message, name)
            target.SetInParent()
            fill(target, value)

    def read(message: Message) -> Any:
        if message.HasField(name):
            return from_wire(getattr(message, name), inner)
        if required:
            raise InvalidInput(f"{kind.__name__}.{name} is not set")
        return _ABSENT

    return _Field(name, write, read)


def _scalar(name: str, kind: Any, presence: bool) -> _Field:
    def write(message: Message, value: Any) -> None:
        if value is not None:
            # An int where a float is due (and the reverse never): protobuf takes no mixture.
            setattr(message, name, float(value) if kind is float else value)

    def read(message: Message) -> Any:
        return _ABSENT if presence and not message.HasField(name) else getattr(message, name)

    return _Field(name, write, read)
