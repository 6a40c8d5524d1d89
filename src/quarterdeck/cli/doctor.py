"""`qd doctor`: what is present and missing on this machine, and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Literal

import click

from quarterdeck import config, process
from quarterdeck.cgroup import Cgroup
from quarterdeck.cli.options import as_json, emit
from quarterdeck.errors import QuarterdeckError

State = Literal["ok", "missing", "problem"]
_VERSION_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at. `required` means that nothing works without it."""

    name: str
    state: State
    found: str
    to_do: str = ""
    required: bool = False


@click.command()
@as_json
def doctor(as_json: bool) -> int:
    """What is present and missing here, and what to do. Exits with 1 when something required is missing."""
    import anyio

    findings = anyio.run(examine, Path.cwd())
    failed = [finding for finding in findings if finding.required and finding.state != "ok"]
    if as_json:
        emit({"ok": not failed, "findings": [asdict(finding) for finding in findings]})
    else:
        _show(findings)
    return 1 if failed else 0


async def examine(folder: Path) -> list[Finding]:
    """Look at everything; `folder` is where quarterdeck.toml may be. Raises nothing: what fails is a finding."""
    settings, configured = _configuration(folder)
    looks: list[Callable[[], Awaitable[list[Finding]]]] = [
        _python,
        _git,
        partial(_repository, folder),
        partial(_agents, settings),
        _bundled_codex,
        _podman,
        _processes,
        partial(_room, settings),
        _state,
        _hub,
    ]
    findings: list[Finding] = []
    for look in looks:
        findings += await look()
    return [*findings, configured]


def _configuration(folder: Path) -> tuple[config.FileConfig, Finding]:
    file = folder / config.FILE_NAME
    try:
        settings = config.with_environment(config.load(folder))
    except QuarterdeckError as error:
        return config.FileConfig(), _wrong("configuration", error, required=True)
    return settings, Finding(name="configuration", state="ok", found=str(file) if file.exists() else "the defaults")


def _wrong(name: str, error: QuarterdeckError, *, required: bool, state: State = "problem") -> Finding:
    return Finding(name=name, state=state, found=error.message, to_do=error.hint, required=required)


async def _python() -> list[Finding]:
    found = f"{sys.version.split()[0]} ({sys.executable})"
    good = sys.version_info >= (3, 11)
    to_do = "" if good else "install Python 3.11 or newer"
    return [Finding(name="python", state="ok" if good else "problem", found=found, to_do=to_do, required=True)]


async def _git() -> list[Finding]:
    from quarterdeck.fleet.git import repository

    try:
        return [Finding(name="git", state="ok", found=await repository.git_version(), required=True)]
    except QuarterdeckError as error:
        return [_wrong("git", error, required=True, state="missing")]


async def _repository(folder: Path) -> list[Finding]:
    from quarterdeck.fleet.git import repository

    try:
        facts = await repository.inspect(folder)
    except QuarterdeckError as error:
        return [_wrong("repository", error, required=False)]
    dirty = ", with uncommitted changes" if facts.dirty else ""
    return [Finding(name="repository", state="ok", found=f"{facts.worktree} ({facts.branch or 'detached'}{dirty})")]


async def _agents(settings: config.FileConfig) -> list[Finding]:
    """Every AI program; the one that agents get by default is required."""
    from quarterdeck.sidecar.catalog import BUILT_IN, VERSION_ARGUMENTS, locate, resolve

    findings: list[Finding] = []
    for name in sorted({*BUILT_IN, *settings.providers}):
        is_default = name == settings.agents.provider
        label = f"agent {name}" + (" (default)" if is_default else "")
        try:
            path = locate(resolve(name, settings))
        except QuarterdeckError as error:
            findings.append(_wrong(label, error, required=is_default, state="missing"))
            continue
        asks = VERSION_ARGUMENTS.get(name) if name not in settings.providers else None
        version = await _version([path, *asks]) if asks else ""
        findings.append(Finding(name=label, state="ok", found=f"{version} ({path})".strip(), required=is_default))
    return findings


async def _bundled_codex() -> list[Finding]:
    """The `codex` that quarterdeck[codex] brings, which no built-in provider runs by itself."""
    try:
        bundled = import_module("codex_cli_bin")
    except ImportError:
        return []
    to_do = "to run it, make it a provider of kind command: docs/providers.md, quarterdeck[codex]"
    try:
        path = str(bundled.bundled_codex_path())
    except OSError as error:
        return [Finding(name="codex (bundled)", state="problem", found=str(error), to_do="install it again")]
    return [
        Finding(
            name="codex (bundled)", state="ok", found=f"{await _version([path, '--version'])} ({path})", to_do=to_do
        )
    ]


async def _version(command: list[str]) -> str:
    try:
        done = await process.run(command, timeout_seconds=_VERSION_SECONDS)
    except QuarterdeckError as error:
        return f"does not tell its version: {error.message}"
    return (done.out or done.err).splitlines()[0] if done.out or done.err else "version not told"


async def _podman() -> list[Finding]:
    hint = "needed for containers only: apt-get install podman (Debian), or see podman's own pages"
    try:
        done = await process.run(["podman", "--version"], timeout_seconds=_VERSION_SECONDS)
    except QuarterdeckError as error:
        return [Finding(name="podman", state="missing", found=error.message, to_do=hint)]
    return [Finding(name="podman", state="ok", found=done.out.removeprefix("podman version "))]


async def _processes() -> list[Finding]:
    """How all processes of an agent are ended: with a cgroup, or by looking for them."""
    group = Cgroup.create("doctor")
    if group is not None:
        group.remove()
        return [Finding(name="cgroups v2", state="ok", found=f"usable below {group.path.parent}")]
    return [
        Finding(
            name="cgroups v2",
            state="missing",
            found="not ours to use; agents' processes are found by their tree and their environment instead",
            to_do="nothing has to be done; a systemd user session (loginctl enable-linger) gives a group of one's own",
        )
    ]


async def _room(settings: config.FileConfig) -> list[Finding]:
    from quarterdeck.fleet import admission

    try:
        room = admission.measure(config.state_dir())
    except OSError as error:
        found = f"{config.state_dir()}: {error.strerror}"
        return [Finding(name="disk", state="problem", found=found, to_do="set QD_STATE_DIR", required=True)]
    return [
        _floor("memory", room.memory, settings.limits.free_memory_mb, "free_memory_mb"),
        _floor("disk", room.disk, settings.limits.free_disk_mb, "free_disk_mb"),
    ]


def _floor(name: str, free: int, floor_mb: int, key: str) -> Finding:
    enough = free >= floor_mb * 1_000_000
    return Finding(
        name=name,
        state="ok" if enough else "problem",
        found=f"{free // 1_000_000} MB free, agents start above {floor_mb} MB",
        to_do="" if enough else f"make room, or lower [limits] {key}",
        required=True,
    )


async def _state() -> list[Finding]:
    from quarterdeck.hub import place

    state = config.state_dir()
    try:
        place.prepare(state)
    except QuarterdeckError as error:
        return [_wrong("state folder", error, required=True)]
    return [Finding(name="state folder", state="ok", found=f"{state} can be written", required=True)]


async def _hub() -> list[Finding]:
    from quarterdeck.hub import place

    info = place.running(config.state_dir())
    if info is None:
        return [Finding(name="hub", state="missing", found="none runs", to_do="qd up, in a git repository")]
    return [Finding(name="hub", state="ok", found=f"{info.url}, version {info.version}, for {info.folder}")]


def _show(findings: list[Finding]) -> None:
    from rich.text import Text

    from quarterdeck.cli import render

    marks = {"ok": ("ok", "green"), "missing": ("missing", "yellow"), "problem": ("problem", "red")}
    made = render.table("", "WHAT", "FOUND")
    for finding in findings:
        word, style = marks[finding.state]
        if finding.required and finding.state != "ok":
            style = "bold red"
        made.add_row(Text(word, style=style), finding.name, Text(finding.found))
        if finding.to_do:
            made.add_row("", "", Text(f"→ {finding.to_do}", style="cyan"))
    made.columns[-1].no_wrap = False
    made.columns[-1].overflow = "fold"
    render.show(made)
