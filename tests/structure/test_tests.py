"""Every test asserts something."""

from __future__ import annotations

import ast
from pathlib import Path

from structure.tree import ROOT, parsed, tracked

Function = ast.FunctionDef | ast.AsyncFunctionDef
CHECKS = {"raises", "warns", "fail", "fail_after", "exit"}


def functions(file: Path) -> list[Function]:
    """Every function of a file, methods and inner ones too."""
    return [node for node in ast.walk(parsed(file)) if isinstance(node, Function)]


def called(function: Function) -> set[str]:
    """The last names of everything that a function calls or hands on."""
    names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    return names | {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}


def is_property(function: Function) -> bool:
    """Whether it runs on made-up inputs: there, that nothing else is raised is what is asserted."""
    return any(isinstance(d, ast.Call) and getattr(d.func, "id", "") == "given" for d in function.decorator_list)


def asserts(function: Function) -> bool:
    """Whether something in the function itself can fail the test."""
    return (
        is_property(function)
        or any(isinstance(node, ast.Assert) for node in ast.walk(function))
        or bool(called(function) & CHECKS)
    )


def test_every_test_asserts_something() -> None:
    files = [file for file in tracked() if file.suffix == ".py" and file.is_relative_to(ROOT / "tests")]
    helpers: dict[str, list[Function]] = {}
    tests: list[tuple[Path, Function]] = []
    for file in files:
        for function in functions(file):
            if function.name.startswith("test_") and file.name.startswith("test_"):
                tests.append((file, function))
            else:
                helpers.setdefault(function.name, []).append(function)
    # A helper checks when it asserts, or when it calls one that does.
    checking = {name for name, found in helpers.items() if any(map(asserts, found))}
    while more := {n for n, found in helpers.items() if n not in checking and any(called(f) & checking for f in found)}:
        checking |= more
    assert len(tests) > 50
    wrong = [f"{f.name}::{t.name}" for f, t in tests if not asserts(t) and not called(t) & checking]
    assert wrong == []
