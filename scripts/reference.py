"""Writes docs/cli.md, docs/http.md and docs/mcp.md from the program itself.

    python scripts/reference.py [--check]

With --check nothing is written; exit code 1 names the pages that are not what they would be.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import click

DOCS = Path(__file__).resolve().parent.parent / "docs"
WIDTH = 100


def cli_page() -> str:
    """Every command with its help, as `qd ... --help` prints it."""
    from quarterdeck.cli.main import cli

    # Nobody's terminal decides what the page looks like.
    context = cli.make_context("qd", [], resilient_parsing=True, terminal_width=WIDTH, max_content_width=WIDTH)
    parts = [
        "# The command line",
        "",
        "Made from the program by `scripts/reference.py`; a test compares. Every command that answers has `--json`, "
        "which prints what the HTTP API answers; failures are then JSON on standard error, too. Colour is for "
        "terminals only, and `NO_COLOR` ends it. `qd completion bash|zsh|fish` prints what makes the shell complete "
        "commands, options and the names of agents.",
        "",
        "| exit code | meaning |",
        "|---|---|",
        "| 0 | done |",
        "| 1 | failed: also a task waited for that did not succeed |",
        "| 2 | wrong usage, or input that cannot be right |",
        "| 3 | not found |",
        "| 4 | conflict: busy, taken, not as expected; nothing was changed |",
        "| 5 | unreachable or unavailable: no hub, no room, a program is missing |",
        "",
    ]
    return "\n".join([*parts, *_command(cli, context)]).rstrip() + "\n"


def _command(command: click.Command, context: click.Context) -> list[str]:
    level = "#" * min(4, context.command_path.count(" ") + 2)
    lines = [f"{level} {context.command_path}", "", "```", command.get_help(context).rstrip(), "```", ""]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            inner = found.make_context(name, [], parent=context, resilient_parsing=True)
            lines += _command(found, inner)
    return lines


def http_page() -> str:
    """Every path of the hub's OpenAPI document."""
    from quarterdeck.hub.app import api_table
    from quarterdeck.hub.http import document

    described = document(api_table(_NoHub(), anyio.Event()))
    lines = [
        "# The hub's HTTP API",
        "",
        "Made from the program by `scripts/reference.py`; a test compares. The OpenAPI document with every field is "
        "at `/api/openapi.json`. Send `Authorization: Bearer TOKEN` (`qd token` prints it); the Host must be a "
        "loopback address or `localhost`, and an Origin, where there is one, too. Times are seconds since the epoch.",
        "",
        'An error is `{"error": {"code", "message", "hint", "details"}}`. Codes: INVALID_INPUT (400, 405, 413, 422), '
        "UNAUTHENTICATED (401), PERMISSION_DENIED (403), NOT_FOUND (404), CONFLICT (409, 412), INTERNAL_ERROR (500), "
        "UNAVAILABLE (503, 507).",
        "",
        "| call | what it does | parameters and body | answers |",
        "|---|---|---|---|",
    ]
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            lines.append(_operation(method, path, operation))
    lines += ["", "## Bodies", "", "A `*` marks what must be there.", ""]
    components = described["components"]["schemas"]
    bodies = {name for operations in described["paths"].values() for o in operations.values() for name in _bodies(o)}
    for name in sorted(bodies):
        schema = components[name]
        required = schema.get("required", [])
        fields = [f"`{field}`{'*' if field in required else ''}" for field in schema["properties"]]
        lines.append(f"- `{name}`: {', '.join(fields)}. {schema.get('description', '')}")
    return "\n".join(lines) + "\n"


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    given = [
        f"{'header ' if p['in'] == 'header' else ''}`{p['name']}` {p.get('description', '')}{_default(p)}".strip()
        for p in operation["parameters"]
        if p["in"] in ("query", "header")
    ]
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]
        schema = next(iter(content.values()))["schema"]
        given.append(f"body {_schema_name(schema)}")
    answers = ", ".join(operation["responses"])
    return f"| `{method.upper()} {path}` | {operation['summary']} | {'; '.join(given) or '-'} | {answers} |"


def _bodies(operation: dict[str, Any]) -> list[str]:
    content = operation.get("requestBody", {}).get("content", {})
    references = [str(found["schema"].get("$ref", "")) for found in content.values()]
    return [reference.rsplit("/", 1)[-1] for reference in references if reference]


def _default(parameter: dict[str, Any]) -> str:
    default = parameter["schema"].get("default")
    return "" if default is None else f" ({default})"


def _schema_name(schema: dict[str, Any]) -> str:
    reference = str(schema.get("$ref", ""))
    return f"`{reference.rsplit('/', 1)[-1]}`" if reference else "JSON"


def mcp_page() -> str:
    """Every tool of the hub's MCP server, with its parameters."""
    from quarterdeck.hub.mcp import make_server

    tools = anyio.run(make_server(_NoHub()).list_tools)
    lines = [
        "# The hub's MCP tools",
        "",
        "Made from the program by `scripts/reference.py`; a test compares. Over HTTP at `/mcp` (streamable, "
        "stateless, protocols up to 2025-11-25 and 2026-07-28), and on stdio with `qd mcp`; `qd up` prints how a "
        "client is told. Results are typed and have output schemas. What takes long goes on when the client is gone, "
        "and what waits takes a cursor and ends within 25 seconds.",
        "",
        "An error has `isError` and a text `CODE: message`, then `Hint: ...` where there is one: INVALID_INPUT, "
        "NOT_FOUND, CONFLICT, UNAVAILABLE, INTERNAL_ERROR.",
        "",
    ]
    for tool in sorted(tools, key=lambda tool: tool.name):
        lines += [f"## {tool.name}", "", (tool.description or "").strip(), ""]
        lines += [f"{_hints(tool.annotations)}.", ""]
        schema = tool.parameters
        required = set(schema.get("required", []))
        if schema.get("properties"):
            lines += ["| parameter | type | default | meaning |", "|---|---|---|---|"]
        for name, described in schema.get("properties", {}).items():
            default = "required" if name in required else f"`{json.dumps(described.get('default'))}`"
            lines.append(f"| `{name}` | {_type(described)} | {default} | {described.get('description', '')} |")
        lines += [""] if schema.get("properties") else []
    return "\n".join(lines).rstrip() + "\n"


class _NoHub:
    """Tools are only described here, none is called."""

    fleet = None


def _hints(annotations: Any) -> str:
    words = ["reads only" if annotations.read_only_hint else "changes things"]
    words += ["may destroy"] if annotations.destructive_hint else []
    words += ["may be repeated"] if annotations.idempotent_hint else []
    return ", ".join(words).capitalize()


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    low, high = schema.get("minimum"), schema.get("maximum")
    span = f" ({'' if low is None else low} to {'' if high is None else high})" if (low, high) != (None, None) else ""
    kind = str(schema.get("type", "any"))
    return f"list of {_type(schema['items'])}" if kind == "array" and "items" in schema else kind + span


PAGES: dict[str, Callable[[], str]] = {"cli.md": cli_page, "http.md": http_page, "mcp.md": mcp_page}


def stale() -> list[str]:
    """The pages that are not what the program says now."""
    return [
        name
        for name, make in PAGES.items()
        if not (DOCS / name).is_file() or (DOCS / name).read_text(encoding="utf-8") != make()
    ]


def main(arguments: list[str]) -> None:
    """Write the pages, or check them."""
    if arguments == ["--check"]:
        if found := stale():
            sys.exit(f"not current: {', '.join(found)}; run scripts/reference.py")
        return
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
