"""What podman itself can leave behind when it is killed: supervisors without a container, stale port rules.

A stale DNAT rule takes the port of the next container that publishes it, which then seems to run and never
answers. Both carry the container's full id; only ids that podman does not know are touched, and a rule only
when no supervisor of that id lives (it might serve a container of another storage).
"""

from __future__ import annotations

import logging
import re
import signal
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from quarterdeck import proctree
from quarterdeck.node import marks
from quarterdeck.node.runtime import Runtime
from quarterdeck.process import CommandFailed, run

log = logging.getLogger(__name__)
_ID = re.compile(r"\b[0-9a-f]{64}\b")
_JUMP = re.compile(
    r"-A NETAVARK-HOSTPORT-DNAT .*--dport (?P<port>\S+) .*\bid: (?P<id>[0-9a-f]{64})\b.* -j (?P<chain>NETAVARK-DN-\S+)"
)


@dataclass(frozen=True)
class Leftovers:
    """What was found and removed."""

    supervisors: int = 0
    rules: int = 0


def end_readers(state_dir: Path) -> int:
    """End the commands that a killed agent left reading (events, logs); how many. Blocks for some milliseconds."""
    readers = [each for each in proctree.marked(marks.reading(state_dir)) if each.name() == "podman"]
    proctree.signal_all(readers, signal.SIGKILL)
    return len(readers)


async def sweep(runtime: Runtime) -> Leftovers:
    """Remove both kinds. Call it while nothing is being created. Raises `Unavailable` of the runtime."""
    supervisors, lines = _supervisors(), await _saved()
    # Listed after looking: what was there before and is unknown now belongs to no container.
    known = {each.id for each in await runtime.list()}
    killed = 0
    for identity, process in supervisors:
        if identity not in known and _orphan(process):
            _end(process)
            killed += 1
    alive = {identity for identity, process in _supervisors()} | known
    removed = 0
    for rule in stale_rules(lines, alive):
        removed += await _delete(rule)
    if killed or removed:
        log.warning("removed %d supervisors without a container and %d stale port rules", killed, removed)
    return Leftovers(killed, removed)


def _supervisors() -> list[tuple[str, psutil.Process]]:
    """Every conmon that serves the default storage, with its container's id."""
    found: list[tuple[str, psutil.Process]] = []
    for process in psutil.process_iter(["name", "cmdline"]):
        line = process.info["cmdline"] or []
        if process.info["name"] == "conmon" and "-c" in line:
            identity = line[line.index("-c") + 1]
            if _ID.fullmatch(identity) and "/var/lib/containers/" in " ".join(line):
                found.append((identity, process))
    return found


def _orphan(process: psutil.Process) -> bool:
    """Its podman is gone: a conmon belongs to init once it is on its own, and one just made is young."""
    with suppress(psutil.Error):
        return process.ppid() == 1 or psutil.Process(process.ppid()).name() not in ("podman", "conmon")
    return False


def _end(process: psutil.Process) -> None:
    with suppress(psutil.Error):
        tree = [*process.children(recursive=True), process]
        for each in tree:
            with suppress(psutil.Error):
                each.send_signal(signal.SIGKILL)


async def _saved() -> list[str]:
    """The rules of the nat table; none where there is no iptables, or it is not ours to read."""
    try:
        return (await run(["iptables-save", "-t", "nat"], timeout_seconds=20)).out.splitlines()
    except CommandFailed:
        return []


def stale_rules(lines: Sequence[str], alive: Collection[str]) -> list[list[str]]:
    """The arguments that delete the rules of containers that are not `alive`, from the lines of `iptables-save`.

    A published port is a jump that carries the id, and rules for the port in the chain jumped to, which carry
    none. Where a living container has the port in the same chain now, its rules are the last ones.
    """
    jumps = [match for line in lines if (match := _JUMP.match(line))]
    live = {(jump["port"], jump["chain"]) for jump in jumps if jump["id"] in alive}
    found: list[list[str]] = []
    for jump in jumps:
        if jump["id"] in alive:
            continue
        found.append(_deletion(jump[0]))
        port, chain = jump["port"], jump["chain"]
        inner = [each for each in lines if each.startswith(f"-A {chain} ") and f"--dport {port} " in each]
        forward = [each for each in inner if "-j DNAT" in each]
        found += [_deletion(each) for each in (forward[:-1] if (port, chain) in live else inner)]
    return found


def _deletion(rule: str) -> list[str]:
    words = [each[1:-1] if each.startswith('"') else each for each in re.findall(r'"[^"]*"|\S+', rule)]
    return ["-t", "nat", "-D", *words[1:]]


async def _delete(arguments: list[str]) -> bool:
    try:
        await run(["iptables", "--wait", "10", *arguments], timeout_seconds=20)
    except CommandFailed:
        # Podman was quicker.
        return False
    return True
