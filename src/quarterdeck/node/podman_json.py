"""Reads podman's JSON (the same from the command and from libpod REST) into our values. Pure.

Shapes differ between versions: podman 4 gives an entrypoint as text, podman 5 as a list; events changed too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from quarterdeck.node.model import Health, Observed, State
from quarterdeck.node.results import Usage
from quarterdeck.node.runtime import Container, Details, Image, RuntimeEvent

LABEL = "io.quarterdeck."
LABEL_NODE = f"{LABEL}node"
LABEL_SERVICE = f"{LABEL}service"
LABEL_COMPONENT = f"{LABEL}component"
LABEL_SPEC = f"{LABEL}spec"
LABEL_GENERATION = f"{LABEL}generation"
LABEL_OPERATION = f"{LABEL}operation"
LABEL_HIDDEN = f"{LABEL}hidden-env"

_STATES: dict[str, State] = {
    "created": "created", "configured": "created", "initialized": "created", "running": "running",
    "stopping": "running", "paused": "paused", "exited": "exited", "stopped": "exited", "dead": "exited",
    "removing": "exited",
}  # fmt: skip
_HEALTH = re.compile(r"\b(starting|unhealthy|healthy)\b")


def instant(value: Any) -> float | None:
    """Seconds since the epoch from podman's text or number; None for its zero time (year 1)."""
    if isinstance(value, int | float):
        return float(value) if value > 0 else None
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", str(value or ""))
    if match is None:
        return None
    whole = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00")).timestamp()
    # fromisoformat refuses nanoseconds.
    return whole + float(match[2] or 0) if whole > 0 else None


def listed(row: Mapping[str, Any]) -> Container:
    """One entry of a listing (`ps --format json`, `GET containers/json`)."""
    state = _STATES.get(str(row.get("State", "")).lower(), "unknown")
    health = _HEALTH.search(str(row.get("Status", "")))
    return Container(
        id=row["Id"],
        name=(row.get("Names") or [row["Id"][:12]])[0],
        state=state,
        pid=int(row.get("Pid") or 0),
        image=row.get("Image") or "",
        image_id=str(row.get("ImageID") or "").removeprefix("sha256:"),
        labels=row.get("Labels") or {},
        exit_code=int(row.get("ExitCode") or 0) if state == "exited" else None,
        started_at=instant(row.get("StartedAt")),
        finished_at=instant(row.get("ExitedAt")) if state == "exited" else None,
        health=_health(health[1] if health else ""),
    )


def details(raw: Mapping[str, Any]) -> Details:
    """The answer of `inspect` for one container."""
    facts = raw.get("State") or {}
    state = _STATES.get(str(facts.get("Status", "")).lower(), "unknown")
    check = facts.get("Health") or facts.get("Healthcheck") or {}
    container = Container(
        id=raw["Id"],
        name=str(raw.get("Name", "")).removeprefix("/"),
        state=state,
        pid=int(facts.get("Pid") or 0),
        image=raw.get("ImageName") or "",
        image_id=str(raw.get("Image") or "").removeprefix("sha256:"),
        labels=(raw.get("Config") or {}).get("Labels") or {},
        exit_code=int(facts.get("ExitCode") or 0) if state == "exited" else None,
        started_at=instant(facts.get("StartedAt")),
        finished_at=instant(facts.get("FinishedAt")) if state == "exited" else None,
        health=_health(str(check.get("Status") or "")),
    )
    return Details(container, raw)


def _health(text: str) -> Health:
    match text:
        case "starting":
            return "starting"
        case "healthy":
            return "healthy"
        case "unhealthy":
            return "unhealthy"
        case _:
            return "none"


def image(raw: Mapping[str, Any]) -> Image:
    """The answer of `image inspect` for one image."""
    config = raw.get("Config") or {}
    return Image(
        id=str(raw["Id"]).removeprefix("sha256:"),
        digest=str(raw.get("Digest") or ""),
        env=tuple(config.get("Env") or ()),
        cmd=tuple(config.get("Cmd") or ()),
        entrypoint=_words(config.get("Entrypoint")),
        user=str(config.get("User") or ""),
        workdir=str(config.get("WorkingDir") or ""),
        volumes=tuple(config.get("Volumes") or ()),
        labels=config.get("Labels") or {},
        healthcheck=check_command(raw.get("HealthCheck") or config.get("Healthcheck") or {}),
    )


def check_command(check: Mapping[str, Any]) -> tuple[str, ...]:
    """The command of a healthcheck as podman keeps it; empty when there is none."""
    test = [str(each) for each in check.get("Test") or ()]
    if not test or test[0].upper() == "NONE":
        return ()
    if test[0] == "CMD-SHELL":
        return ("/bin/sh", "-c", " ".join(test[1:]))
    return tuple(test[1:] if test[0] == "CMD" else test)


def event(row: Mapping[str, Any]) -> RuntimeEvent | None:
    """One event of either shape; None when it is not about a container."""
    if (row.get("Type") or row.get("type")) != "container":
        return None
    actor = row.get("Actor")
    if isinstance(actor, Mapping):
        attributes = actor.get("Attributes") or {}
        at = float(row.get("timeNano") or 0) / 1e9 or float(row.get("time") or 0)
        return RuntimeEvent(at, str(actor.get("ID", "")), str(attributes.get("name", "")), str(row.get("Action")))
    at = float(row.get("timeNano") or 0) / 1e9 or instant(row.get("Time")) or float(row.get("time") or 0)
    name = str(row.get("Name") or row.get("name") or "")
    return RuntimeEvent(
        at, str(row.get("ID") or row.get("id") or ""), name, str(row.get("Status") or row.get("status"))
    )


def observed(container: Container | None, *, now: float) -> Observed:
    """What the registry keeps of a container; *missing* for None."""
    if container is None:
        return Observed(state="missing", at=now)
    generation = container.labels.get(LABEL_GENERATION, "")
    return Observed(
        state=container.state,
        at=now,
        container_id=container.id,
        pid=container.pid,
        image=container.image,
        image_digest=f"sha256:{container.image_id}" if container.image_id else "",
        spec_hash=container.labels.get(LABEL_SPEC, ""),
        generation=int(generation) if generation.isdigit() else 0,
        started_at=container.started_at,
        finished_at=container.finished_at,
        exit_code=container.exit_code,
        health=container.health,
        message=container.message,
    )


def usage_rows(rows: Iterable[Mapping[str, Any]]) -> dict[str, Usage]:
    """The entries of REST's stats, by full container id."""
    return {
        str(row["ContainerID"]): Usage(
            cpu_percent=round(float(row.get("CPU") or row.get("AvgCPU") or 0), 2),
            memory=int(row.get("MemUsage") or 0),
            memory_limit=int(row.get("MemLimit") or 0),
            pids=int(row.get("PIDs") or 0),
        )
        for row in rows
    }


def _words(value: Any) -> tuple[str, ...]:
    """An entrypoint: a list (podman 5, images) or text (podman 4)."""
    if isinstance(value, str):
        return tuple(value.split()) if value else ()
    return tuple(value or ())
