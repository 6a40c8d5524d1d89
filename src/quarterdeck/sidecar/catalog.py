"""The providers that come with Quarterdeck, as data, and where their programs are on this machine."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from quarterdeck.config import FileConfig, ProviderTable, base_environment
from quarterdeck.errors import NotFound, Unavailable

_ANTHROPIC = [
    "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ANTHROPIC_MODEL", "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX",
]  # fmt: skip
_OPENAI = ["OPENAI_API_KEY", "OPENAI_BASE_URL", "CODEX_API_KEY", "CODEX_HOME"]
_GEMINI = [
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GOOGLE_GENAI_USE_VERTEXAI",
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_CLOUD_LOCATION",
]

BUILT_IN: dict[str, ProviderTable] = {
    "claude-code": ProviderTable(
        kind="claude-code",
        command=["claude"],
        pass_env=_ANTHROPIC,
        install="pip install 'quarterdeck[claude]', or install Claude Code so that `claude` is on PATH",
    ),
    "claude-acp": ProviderTable(
        kind="acp",
        command=["claude-agent-acp"],
        pass_env=[*_ANTHROPIC, "CLAUDE_CODE_EXECUTABLE"],
        install="npm install -g @agentclientprotocol/claude-agent-acp (needs Node 22 or newer)",
    ),
    "codex": ProviderTable(
        kind="acp",
        command=["codex-acp"],
        pass_env=_OPENAI,
        install="npm install -g @agentclientprotocol/codex-acp (needs Node 22 or newer)",
    ),
    "gemini": ProviderTable(
        kind="acp",
        command=["gemini", "--acp"],
        pass_env=_GEMINI,
        install="npm install -g @google/gemini-cli",
    ),
    "opencode": ProviderTable(
        kind="acp",
        command=["opencode", "acp"],
        pass_env=[*_ANTHROPIC, *_OPENAI, *_GEMINI, "OPENCODE_CONFIG"],
        install="npm install -g opencode-ai",
    ),
    "scripted": ProviderTable(
        kind="acp",
        command=[sys.executable, "-m", "quarterdeck.scripted.agent"],
        pass_env=["QD_SCRIPTED_HOME"],
        install="it ships with quarterdeck",
    ),
}  # fmt: skip

# How a program tells its version, for `qd doctor`; what is not here is not asked.
VERSION_ARGUMENTS: dict[str, list[str]] = {
    "claude-code": ["--version"],
    "claude-acp": ["--version"],
    "codex": ["--version"],
    "gemini": ["--version"],
    "opencode": ["--version"],
}


def resolve(name: str, config: FileConfig) -> ProviderTable:
    """The provider of this name: the configuration's own, else the built-in one.

    A table of the configuration with the name of a built-in one replaces it as a whole.
    Raises `NotFound`, listing the known ones.
    """
    table = config.providers.get(name) or BUILT_IN.get(name)
    if table is None:
        known = ", ".join(sorted({*BUILT_IN, *config.providers}))
        raise NotFound(f"there is no provider {name!r}", hint=f"known: {known}; [providers.{name}] would define it")
    return table


def locate(table: ProviderTable) -> str:
    """The path of the provider's program. Raises `Unavailable` with the install hint when it is missing."""
    if not table.command:
        raise Unavailable(
            "the provider has no command, so there is nothing to run",
            hint='give it one in its table: command = ["program", "argument"]',
        )
    program = table.command[0]
    path = shutil.which(program, path=table.env.get("PATH") or base_environment().get("PATH"))
    if path is None and program == "claude":
        path = _bundled_claude()
    if path is None:
        raise Unavailable(f"the program {program!r} is not on this machine", hint=table.install or f"install {program}")
    return path


def _bundled_claude() -> str | None:
    """The `claude` that the PyPI package claude-agent-sdk brings along, found without importing it."""
    spec = find_spec("claude_agent_sdk")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "_bundled" / "claude"
        if path.is_file():
            return str(path)
    return None
