"""Imports point one way, and the doors to the machine are few."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from structure.tree import PACKAGE, ROOT, imports, modules, parsed, relative_imports, within

FOUNDATION = {
    "cgroup", "config", "cork", "detached", "errors", "events", "files", "openapi", "process", "proctree", "serving",
    "telemetry", "web",
}  # fmt: skip
STARTERS = {"quarterdeck.process", "quarterdeck.detached"}
# Programs of their own, which run where nothing else of the package is loaded.
PROGRAMS = ("scripted", "demo", "sidecar.mcp_bridge")
# What the fleet may know of a sidecar: how to talk to it, its words, its files, the catalogue of programs.
SIDECAR_FOR_FLEET = {"catalog", "client", "model", "offline", "spec"}
IMPURE = {
    "aiohttp", "anyio", "asyncio", "fastmcp", "grpc", "http", "httpx", "httpx2", "mcp", "psutil", "socket", "sqlite3",
    "starlette", "subprocess", "threading", "time", "urllib", "uvicorn",
}  # fmt: skip
EVERY = sorted(modules())


def pure(module: str) -> bool:
    """Whether a file is one of those that only decide: models, planners, reconcile."""
    name = module.rpartition(".")[2]
    return name in ("model", "reconcile", "planner") or name.endswith("_plan")


def test_the_contracts_of_import_linter_are_kept() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "Contracts: " in done.stdout
    assert " 0 broken" in done.stdout


def test_the_fleet_knows_only_the_sidecars_face() -> None:
    known = {f"{PACKAGE}.sidecar.{name}" for name in SIDECAR_FOR_FLEET}
    wrong = {
        f"{module} imports {name}"
        for module in EVERY
        if within(module, "fleet")
        for name in imports(module)
        if within(name, "sidecar") and name not in known
    }
    assert wrong == set()


@pytest.mark.parametrize("part", ["metadata", "node"])
def test_parts_at_the_bottom_know_only_the_foundation(part: str) -> None:
    allowed = {f"{PACKAGE}.{name}" for name in FOUNDATION} | {PACKAGE}
    # Who calls is judged alike at every front door.
    allowed |= {module for module in EVERY if part == "node" and within(module, "auth")}
    members = [module for module in EVERY if within(module, part)]
    assert members or part == "node"
    wrong = {
        f"{module} imports {name}"
        for module in members
        for name in imports(module)
        if name.split(".")[0] == PACKAGE and not within(name, part) and name not in allowed
    }
    assert wrong == set()


def test_the_foundation_knows_only_itself() -> None:
    wrong = {
        f"{name} imports {other}"
        for name in FOUNDATION
        for other in imports(f"{PACKAGE}.{name}")
        if other.startswith(f"{PACKAGE}.") and other.removeprefix(f"{PACKAGE}.") not in FOUNDATION
    }
    assert wrong == set()


def test_pure_files_touch_no_loop_no_network_no_database() -> None:
    members = [module for module in EVERY if pure(module)]
    assert f"{PACKAGE}.sidecar.model" in members
    wrong = {f"{m} imports {n}" for m in members for n in imports(m) if n.split(".")[0] in IMPURE}
    assert wrong == set()


def test_only_two_files_start_processes() -> None:
    wrong = {
        module
        for module in EVERY
        if "subprocess" in imports(module) and module not in STARTERS and not within(module, *PROGRAMS)
    }
    assert wrong == set()
    # The other ways to start one.
    calls = {"system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp", "open_process", "run_process"}
    starts = {
        f"{module}:{node.lineno} {node.func.attr}"
        for module in EVERY
        if module not in STARTERS and not within(module, *PROGRAMS)
        for node in ast.walk(parsed(modules()[module]))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if isinstance(node.func.value, ast.Name) and node.func.value.id in ("os", "anyio", "asyncio")
        if node.func.attr in calls or node.func.attr.startswith(("spawn", "create_subprocess"))
    }
    assert starts == set()


def test_no_shell_is_ever_used() -> None:
    wrong = {
        f"{module}:{node.value.lineno}"
        for module in EVERY
        for node in ast.walk(parsed(modules()[module]))
        if isinstance(node, ast.keyword) and node.arg == "shell"
    }
    assert wrong == set()


def reads_of_the_environment(module: str) -> list[int]:
    """Lines that read the environment; `os.environ.setdefault(...)` as a statement only writes it."""
    tree = parsed(modules()[module])
    written = {
        id(node.value.func.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and node.value.func.attr in ("setdefault", "update", "clear")
    }
    written |= {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Subscript) and isinstance(n.ctx, ast.Store)}
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and node.attr in ("environ", "environb", "getenv", "getenvb")
        and id(node) not in written
    ]


def test_only_config_py_reads_the_environment() -> None:
    wrong = {
        f"{module}:{lines}"
        for module in EVERY
        if module != f"{PACKAGE}.config" and not within(module, *PROGRAMS)
        if (lines := reads_of_the_environment(module))
    }
    assert wrong == set()
    hidden = {m for m in EVERY if "os" in imports(m) and _names_from_os(m) & {"environ", "getenv"}}
    assert hidden == set()


def _names_from_os(module: str) -> set[str]:
    return {
        alias.name
        for node in ast.walk(parsed(modules()[module]))
        if isinstance(node, ast.ImportFrom) and node.module == "os"
        for alias in node.names
    }


def test_imports_are_absolute() -> None:
    wrong = {f"{module}:{line}" for module in EVERY for line in relative_imports(module)}
    assert wrong == set()


def test_the_command_line_starts_light() -> None:
    """`qd --help` must not load what takes long: MCP, the ACP SDK, tables, HTTP."""
    program = (
        f"import sys; from {PACKAGE}.cli.main import main; sys.argv = ['qd', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('loaded', *sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.rpartition("loaded")[2].split())
    heavy = {"acp", "fastmcp", "httpx2", "mcp", "pydantic", "rich", "sqlite3", "starlette", "uvicorn"}
    assert loaded & heavy == set()
