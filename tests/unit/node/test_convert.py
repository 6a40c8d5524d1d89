"""The wire carries the model without loss."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeck.errors import InvalidInput
from quarterdeck.node import convert, model, results
from quarterdeck.node.proto import model_pb2

# protobuf strings are UTF-8: lone surrogates cannot be sent.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def strategy(hint: Any, wire: Any = None) -> st.SearchStrategy[Any]:
    inner, optional = convert._without_none(hint)
    origin, arguments = typing.get_origin(inner), typing.get_args(inner)
    found: st.SearchStrategy[Any]
    if origin is tuple:
        found = st.lists(strategy(arguments[0]), max_size=2).map(tuple)
    elif origin is typing.Literal:
        found = st.sampled_from(arguments)
    elif dataclasses.is_dataclass(inner):
        found = instances(typing.cast(type, inner))
    elif arguments:
        found = st.dictionaries(TEXT, JSON if arguments[1] is Any else TEXT, max_size=3)
    elif inner is int:
        small = wire is not None and wire.type == wire.TYPE_INT32
        found = st.integers(-(2**31), 2**31 - 1) if small else st.integers(-(2**63), 2**63 - 1)
    else:
        found = {str: TEXT, bool: st.booleans(), bytes: st.binary(max_size=9),
                 float: st.floats(allow_nan=False)}[inner]  # fmt: skip
    return st.none() | found if optional else found


def instances(kind: type) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    wire = convert.message_class(kind).DESCRIPTOR.fields_by_name
    return st.deferred(lambda: st.builds(kind, **{f.name: strategy(hints[f.name], wire[f.name])
                                                  for f in dataclasses.fields(kind)}))  # fmt: skip


@pytest.mark.parametrize("kind", convert.wire_kinds(), ids=lambda k: k.__name__)
def test_everything_comes_back_as_it_was_sent(kind: type) -> None:
    @settings(max_examples=40, deadline=None)
    @given(instances(kind))
    def check(value: Any) -> None:
        message = convert.to_wire(value)
        again = type(message)()
        again.ParseFromString(message.SerializeToString())
        assert convert.from_wire(again, kind) == value

    check()


@pytest.mark.parametrize("kind", convert.wire_kinds(), ids=lambda k: k.__name__)
def test_message_and_dataclass_have_the_same_fields(kind: type) -> None:
    assert {f.name for f in dataclasses.fields(kind)} == set(convert.message_class(kind).DESCRIPTOR.fields_by_name)


def test_what_a_foreign_client_leaves_out_takes_the_default() -> None:
    message = model_pb2.ServiceDef(name="web", components=[model_pb2.ComponentSpec(name="web", image="i")])
    found = convert.from_wire(message, model.ServiceDef)
    assert found == model.ServiceDef("web", (model.ComponentSpec("web", "i"),))
    assert found.active is True
    assert found.components[0].restart == "always"
    check = convert.from_wire(model_pb2.Healthcheck(command=["true"]), model.Healthcheck)
    assert check == model.Healthcheck(("true",))


def test_an_enum_that_must_be_told_is_missed() -> None:
    message = convert.to_wire(results.ComponentResult("web", "created"))
    message.outcome = 0
    with pytest.raises(InvalidInput, match=r"ComponentResult\.outcome is not set"):
        convert.from_wire(message, results.ComponentResult)
    message.outcome = 99
    with pytest.raises(InvalidInput, match="unknown value 99"):
        convert.from_wire(message, results.ComponentResult)


def test_a_number_that_the_wire_cannot_carry_is_refused() -> None:
    with pytest.raises(InvalidInput, match="cannot be sent"):
        convert.to_wire(model.Port(2**40, 80))
    with pytest.raises(InvalidInput, match="not one of"):
        convert.to_wire(model.Port(80, 80, "sctp"))  # type: ignore[arg-type]
