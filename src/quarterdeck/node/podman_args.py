"""The argument lists of every podman command that the node agent runs. Pure; the tests know them by heart.

Each list begins after the program's name, and names stand behind `--`, so that none is taken for an option.
Values of secrets never stand in a list: they go over standard input (`--env-file /dev/stdin`,
`secret create NAME -`).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from quarterdeck.node.model import Healthcheck, Secret
from quarterdeck.node.runtime import CreateRequest
from quarterdeck.node.validate import format_port, format_volume

USAGE_FORMAT = (
    "{{.ID}} {{.ContainerStats.CPU}} {{.ContainerStats.MemUsage}} {{.ContainerStats.MemLimit}} {{.ContainerStats.PIDs}}"
)


def version() -> list[str]:
    """The client's version."""
    return ["version", "--format", "{{.Client.Version}}"]


def pull(image: str, *, insecure: bool = False) -> list[str]:
    """Fetch an image; prints its id."""
    return ["pull", "--quiet", *(["--tls-verify=false"] if insecure else []), "--", image]


def image_inspect(name: str) -> list[str]:
    """One image as JSON."""
    return ["image", "inspect", "--", name]


def create(request: CreateRequest) -> list[str]:
    """Make a container; prints its id. Hidden variables are expected on standard input."""
    spec = request.spec
    arguments = ["create", "--name", request.name, "--pull", "never"]
    arguments += _each("--label", (f"{k}={v}" for k, v in sorted({**spec.labels, **request.labels}.items())))
    arguments += _each("--publish", map(format_port, spec.ports))
    arguments += _each("--volume", map(format_volume, spec.volumes))
    arguments += _each("--env", (f"{name}={value}" for name, value in sorted(spec.env.items())))
    if request.hidden_env:
        arguments += ["--env-file", "/dev/stdin"]
    arguments += _each("--secret", map(_secret, spec.secrets))
    if spec.user:
        arguments += ["--user", spec.user]
    if spec.workdir:
        arguments += ["--workdir", spec.workdir]
    if spec.network:
        arguments += ["--network", spec.network]
    if spec.limits.memory is not None:
        arguments += ["--memory", f"{spec.limits.memory}b"]
    if spec.limits.cpus is not None:
        arguments += ["--cpus", f"{spec.limits.cpus:g}"]
    if spec.limits.pids is not None:
        arguments += ["--pids-limit", str(spec.limits.pids)]
    if spec.healthcheck is not None:
        arguments += _healthcheck(spec.healthcheck)
    arguments += ["--stop-timeout", str(spec.stop_seconds)]
    if spec.entrypoint:
        arguments += ["--entrypoint", json.dumps(list(spec.entrypoint))]
    return [*arguments, "--", spec.image, *spec.cmd]


def hidden_env(values: Mapping[str, str]) -> bytes:
    """What goes to the standard input of `create`."""
    return "".join(f"{name}={value}\n" for name, value in values.items()).encode()


def _each(option: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _secret(secret: Secret) -> str:
    kind = "env" if secret.kind == "env" else "mount"
    target = f",target={secret.target}" if secret.target else ""
    return f"{secret.name},type={kind}{target}"


def _healthcheck(check: Healthcheck) -> list[str]:
    # The node agent runs the check itself: an interval would need systemd's timers.
    return [
        "--health-cmd", _health_command(check.command),
        "--health-interval", "disable",
        "--health-timeout", f"{check.timeout:g}s",
        "--health-retries", str(check.retries),
        "--health-start-period", f"{check.start_period:g}s",
    ]  # fmt: skip


def _health_command(command: Sequence[str]) -> str:
    """Podman takes a list of two words or more as JSON, a single word only behind CMD."""
    if len(command) > 1:
        return json.dumps(list(command))
    return f"CMD {command[0]}" if not any(c.isspace() for c in command[0]) else shlex.quote(command[0])


def start(name: str) -> list[str]:
    """Start a container."""
    return ["start", "--", name]


def stop(name: str, grace_seconds: int) -> list[str]:
    """Stop a container."""
    return ["stop", "--time", str(grace_seconds), "--", name]


def remove(name: str, *, volumes: bool = True) -> list[str]:
    """Remove a container, with its anonymous volumes where asked; no error when there is none."""
    return ["rm", "--force", "--ignore", *(["--volumes"] if volumes else []), "--time", "0", "--", name]


def rename(name: str, new: str) -> list[str]:
    """Rename a container."""
    return ["rename", "--", name, new]


def inspect(name: str) -> list[str]:
    """One container as JSON."""
    return ["container", "inspect", "--", name]


def exists(kind: str, name: str) -> list[str]:
    """Exit code 0 when a container, an image or a secret of that name is there, 1 when not."""
    return ["secret", "inspect", "--", name] if kind == "secret" else [kind, "exists", "--", name]


def listing() -> list[str]:
    """Every container as JSON."""
    return ["ps", "--all", "--no-trunc", "--format", "json"]


def logs(name: str, *, tail: int | None, since: float, follow: bool) -> list[str]:
    """The output of a container with times."""
    arguments = ["logs", "--timestamps"]
    if tail is not None:
        arguments += ["--tail", str(tail)]
    if since:
        arguments += ["--since", instant(since)]
    return [*arguments, *(["--follow"] if follow else []), "--", name]


def execute(name: str, command: Sequence[str], *, user: str, stdin: bool) -> list[str]:
    """Run a command in a container."""
    return ["exec", *(["--interactive"] if stdin else []), *(["--user", user] if user else []), "--", name, *command]


def events(since: float) -> list[str]:
    """The events of containers as lines of JSON, for ever."""
    return ["events", "--format", "json", "--filter", "type=container", "--since", instant(since)]


def healthcheck(name: str) -> list[str]:
    """Run the healthcheck; exit code 0 healthy, 1 not."""
    return ["healthcheck", "run", "--", name]


def usage(ids: Iterable[str]) -> list[str]:
    """What running containers use, as in `USAGE_FORMAT`."""
    return ["stats", "--no-stream", "--no-trunc", "--format", USAGE_FORMAT, "--", *ids]


def processes(name: str) -> list[str]:
    """The processes in a container; exit code 125 when there is none."""
    return ["top", "--", name, "pid"]


def secret_create(name: str, *, replace: bool = False) -> list[str]:
    """Make a secret of what is on standard input; podman knows `replace` from 4.7 on."""
    return ["secret", "create", *(["--replace"] if replace else []), "--", name, "-"]


def secret_remove(name: str) -> list[str]:
    """Remove a secret."""
    return ["secret", "rm", "--", name]


def secret_names() -> list[str]:
    """The secrets' names, one a line."""
    return ["secret", "ls", "--format", "{{.Name}}"]


def instant(seconds: float) -> str:
    """A time as podman reads it everywhere."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
