"""`qd service list|ps|status|history|logs|events|exec`: the truth about what runs."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from quarterdeck.cli.nodes_common import (
    ask_nodes,
    command,
    json_option,
    node_option,
    nodes_option,
    settings,
    split_name,
    tell_missing,
    with_node,
)

if TYPE_CHECKING:
    from quarterdeck.errors import QuarterdeckError
    from quarterdeck.node.client import NodeClient
    from quarterdeck.node.model import ServiceRecord
    from quarterdeck.node.results import LiveCheck, ServiceStatus


@click.command("list")
@nodes_option
@json_option
@command
async def list_(nodes: tuple[str, ...], as_json: bool) -> int:
    """What the nodes' registries say, without asking the containers' runtime."""
    from quarterdeck.cli import nodes_render as render
    from quarterdeck.node.reconcile import ended_well

    async def ask(client: NodeClient) -> tuple[ServiceRecord, ...]:
        return await client.list_services()

    answers, errors = await ask_nodes(settings(), nodes, ask)
    if as_json:
        render.say_json({"nodes": answers, "errors": render.errors_json(errors)})
        return tell_missing(errors)
    rows = [
        (
            node,
            f"{service.name}/{each.name}",
            render.state(each.desired, each.observed, done=ended_well(each.spec, each.observed))
            + (", paused" if service.paused else "")
            + ("" if service.managed else ", not ours"),
            each.version,
            each.spec.image,
            str(service.generation),
        )
        for node, services in answers.items()
        for service in services
        for each in service.components
    ]
    render.table(("NODE", "COMPONENT", "STATE", "VERSION", "IMAGE", "GENERATION"), rows)
    return tell_missing(errors)


@click.command("ps")
@nodes_option
@json_option
@command
async def ps(nodes: tuple[str, ...], as_json: bool) -> int:
    """What runs now: asks the containers' runtime on all nodes at once."""
    from quarterdeck.cli import nodes_render as render

    async def ask(client: NodeClient) -> LiveCheck:
        return await client.live_check(usage=True)

    answers, errors = await ask_nodes(settings(), nodes, ask)
    mute = _runtime_errors({node: check.runtime_error for node, check in answers.items()})
    if as_json:
        render.say_json({"nodes": answers, "errors": render.errors_json({**errors, **mute})})
        return tell_missing({**errors, **mute})
    rows = []
    for node, check in answers.items():
        for each in check.components:
            running = each.observed.state == "running"
            rows.append(
                (
                    node,
                    f"{each.service}/{each.component}",
                    render.state(each.desired, each.observed, done=each.done),
                    render.since(each.observed.started_at) if running else "",
                    each.version,
                    f"{each.usage.cpu_percent:.1f}%" if each.usage and running else "",
                    render.size(each.usage.memory) if each.usage and running else "",
                )
            )
    render.table(("NODE", "COMPONENT", "STATE", "UP", "VERSION", "CPU", "MEMORY"), rows)
    for node, check in answers.items():
        if check.unmanaged:
            click.echo(f"{node}: belongs to nobody: {', '.join(check.unmanaged)}")
    return tell_missing({**errors, **mute})


@click.command("status")
@click.argument("service", required=False)
@nodes_option
@json_option
@command
async def status(service: str | None, nodes: tuple[str, ...], as_json: bool) -> int:
    """Services with what differs from what should be, and their latest events. Exit code 4 when something differs."""
    from quarterdeck.cli import nodes_render as render
    from quarterdeck.errors import Conflict, NotFound

    async def ask(client: NodeClient) -> tuple[ServiceStatus, ...]:
        if service:
            try:
                return (await client.get_service_status(service),)
            except NotFound:
                return ()
        services = await client.list_services()
        return tuple([await client.get_service_status(each.name, events=3) for each in services if each.managed])

    answers, errors = await ask_nodes(settings(), nodes, ask)
    if service and not any(answers.values()) and not errors:
        raise NotFound(f"no node has a service {service!r}", hint="`qd service list` shows all")
    mute = _runtime_errors(
        {node: next((s.runtime_error for s in found if s.runtime_error), "") for node, found in answers.items()}
    )
    missing = {**errors, **mute}
    drifted = any(each.drift for found in answers.values() for each in found)
    if as_json:
        render.say_json({"nodes": answers, "errors": render.errors_json(missing)})
    else:
        for node, found in answers.items():
            for each in found:
                _say_status(node, each)
    return tell_missing(missing) or (Conflict.exit_code if drifted else 0)


def _say_status(node: str, status: ServiceStatus) -> None:
    from quarterdeck.cli import nodes_render as render
    from quarterdeck.node.reconcile import ended_well

    record = status.service
    flags = [word for word, on in (("paused", record.paused), ("enforced", record.enforce)) if on]
    extra = f" ({', '.join(flags)})" if flags else ""
    click.echo(f"{record.name} on {node}: generation {record.generation}{extra}")
    for each in record.components:
        image = f"{each.spec.image}" + (f" ({each.image_digest[:19]})" if each.image_digest else "")
        up = render.since(each.observed.started_at) if each.observed.state == "running" else ""
        restarts = f", {each.restarts} restarts" if each.restarts else ""
        state = render.state(each.desired, each.observed, done=ended_well(each.spec, each.observed))
        click.echo(f"  {each.name}: {state} {up}{restarts}  {image}")
    render.drift(status.drift)
    for event in status.events:
        click.echo(f"    {render.event(event)}")


def _runtime_errors(found: dict[str, str]) -> dict[str, QuarterdeckError]:
    from quarterdeck.errors import Unavailable

    return {
        node: Unavailable(f"podman does not answer there, its containers' states are unknown: {text}")
        for node, text in found.items()
        if text
    }


@click.command("history")
@click.argument("service")
@node_option
@json_option
@command
async def history(service: str, node: str | None, as_json: bool) -> int:
    """The generations of a service that can be rolled back to."""
    from quarterdeck.cli import nodes_render as render
    from quarterdeck.cli.service_where import holder

    config = settings()
    entries = await with_node(config, await holder(config, service, node=node), lambda client: client.history(service))
    if as_json:
        render.say_json(entries)
        return 0
    rows = [
        (
            f"{each.generation}{' *' if each.current else ''}",
            render.moment(each.at),
            each.actor,
            render.paint("ok", render.GOOD) if each.ok else render.paint("failed", render.BAD),
            ", ".join(_image(part.image, each.images.get(part.name, "")) for part in each.definition.components),
        )
        for each in entries
    ]
    render.table(("GENERATION", "DEPLOYED", "BY", "RESULT", "IMAGES"), rows)
    return 0


def _image(reference: str, identity: str) -> str:
    """An image as its definition names it, and the id that was behind that name."""
    return f"{reference} ({identity.removeprefix('sha256:')[:12]})" if identity else reference


def _moment(text: str) -> float:
    """`90s`, `15m`, `2h`, `1d` ago, or seconds since the epoch."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    try:
        return time.time() - float(text[:-1]) * units[text[-1]] if text[-1:] in units else float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r}: write 90s, 15m, 2h, 1d, or seconds since the epoch") from None


since_option = click.option("--since", default="0", metavar="TIME", help="90s, 15m, 2h, 1d ago, or epoch seconds.")


@click.command("logs")
@click.argument("name", metavar="SERVICE[/COMPONENT]")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--tail", "-n", type=int, metavar="N", help="Only the last N lines of each component.")
@since_option
@node_option
@json_option
@command
async def logs(name: str, follow: bool, tail: int | None, since: str, node: str | None, as_json: bool) -> int:
    """The output of a service's containers, merged by time."""
    from quarterdeck.cli import nodes_render as render
    from quarterdeck.cli.service_where import holder

    config = settings()
    service, component = split_name(name)

    async def work(client: NodeClient) -> None:
        lines = client.logs(service, component=component, tail=tail, since=_moment(since), follow=follow)
        async for line in lines:
            if as_json:
                _json_line(line)
            else:
                click.echo(f"{render.paint(line.component, render.DIM)} {line.text}", err=line.stream == "stderr")

    await with_node(config, await holder(config, service, node=node), work)
    return 0


@click.command("events")
@click.argument("name", metavar="[SERVICE[/COMPONENT]]", default="")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--tail", "-n", "limit", type=int, default=100, show_default=True, metavar="N", help="Only the last N.")
@since_option
@node_option
@json_option
@command
async def events(name: str, follow: bool, limit: int, since: str, node: str | None, as_json: bool) -> int:
    """What happened to a service, or (without one) on a node."""
    from quarterdeck.cli import nodes_render as render
    from quarterdeck.cli.service_where import holder

    config = settings()
    service, component = split_name(name)
    where = await holder(config, service, node=node) if service else config.pick(node)

    async def work(client: NodeClient) -> None:
        found = client.events(service=service, component=component, since=_moment(since), limit=limit, follow=follow)
        async for event in found:
            if as_json:
                _json_line(event)
            else:
                click.echo(render.event(event))

    await with_node(config, where, work)
    return 0


def _json_line(value: object) -> None:
    import msgspec

    click.echo(msgspec.json.encode(value).decode())


@click.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("name", metavar="SERVICE[/COMPONENT]")
@click.argument("command_line", nargs=-1, required=True, metavar="COMMAND...")
@click.option("--user", "-u", default="", help="User in the container.")
@click.option("--stdin", "-i", "with_stdin", is_flag=True, help="Hand on standard input (read whole first).")
@node_option
@command
async def exec_(name: str, command_line: tuple[str, ...], user: str, with_stdin: bool, node: str | None) -> int:
    """Run a command inside a component's container; its exit code becomes ours."""
    from quarterdeck.cli.service_where import holder

    config = settings()
    service, component = split_name(name)
    given = sys.stdin.buffer.read() if with_stdin else b""
    # click keeps the `--` that ends our own options.
    arguments = command_line[1:] if command_line[0] == "--" else command_line

    async def work(client: NodeClient) -> int:
        code = 0
        async for output in client.exec_command(service, component, arguments, stdin=given, user=user):
            target = sys.stderr.buffer if output.stream == "stderr" else sys.stdout.buffer
            target.write(output.data)
            target.flush()
            if output.exit_code is not None:
                code = output.exit_code
        return code

    return await with_node(config, await holder(config, service, node=node), work)


COMMANDS = (list_, ps, status, history, logs, events, exec_)
