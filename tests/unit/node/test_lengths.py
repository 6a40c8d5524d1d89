"""What is longer than podman or Linux takes is refused before either sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from quarterdeck.errors import NotFound
from quarterdeck.node import snapshot
from quarterdeck.node.model import ComponentSpec, Healthcheck, ServiceDef
from quarterdeck.node.validate import problems

LONG = "x" * 70_000


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"cmd": (LONG,)}, "cmd"),
        ({"cmd": ("sh", "x" * 140_000)}, "cmd"),
        ({"entrypoint": (LONG,)}, "entrypoint"),
        ({"user": LONG}, "user"),
        ({"workdir": f"/{LONG}"}, "workdir"),
        ({"healthcheck": Healthcheck((LONG,))}, "healthcheck.command"),
    ],
)
def test_a_definition(more: dict[str, object], key: str) -> None:
    component = ComponentSpec("c", "img", **more)  # type: ignore[arg-type]
    assert [each.key for each in problems(ServiceDef("web", (component,)))] == [f"components[0].{key}"]


def test_what_is_as_long_as_it_may_be_is_fine() -> None:
    component = ComponentSpec("c", "img", cmd=("sh", "-c", "x" * 131_071), user="1000:1000", workdir="/" + "d" * 4000)
    assert not problems(ServiceDef("web", (component,)))


def test_the_name_of_a_snapshot(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no snapshot"):
        snapshot.find(tmp_path, LONG)
