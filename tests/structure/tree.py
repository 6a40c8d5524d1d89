"""What the checks of structure look at: the files of the repository, and what they import and call."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
PACKAGE = "quarterdeck"


@cache
def tracked() -> tuple[Path, ...]:
    """Every file that git knows or would add, below the root."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True)
    names = sorted(name for name in done.stdout.decode().split("\0") if name)
    return tuple(file for name in names if (file := ROOT / name).is_file())


@cache
def parsed(file: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


@cache
def modules() -> dict[str, Path]:
    """Dotted name to file, of every module of the package."""
    found: dict[str, Path] = {}
    for file in tracked():
        if file.suffix == ".py" and file.is_relative_to(SOURCE / PACKAGE):
            parts = file.relative_to(SOURCE).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """What a module imports, also inside functions: dotted names, down to the module where it is one of ours."""
    found: set[str] = set()
    for node in ast.walk(parsed(modules()[module])):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in modules() else node.module)
    return frozenset(found)


def relative_imports(module: str) -> Iterator[int]:
    """The lines of a module's relative imports."""
    for node in ast.walk(parsed(modules()[module])):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno


def within(module: str, *parts: str) -> bool:
    """Whether a module is one of these, or inside one of them (names below the package)."""
    return any(module == f"{PACKAGE}.{part}" or module.startswith(f"{PACKAGE}.{part}.") for part in parts)
