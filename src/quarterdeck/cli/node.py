"""`qd node`: the machines that run containers, seen from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quarterdeck.cli import node_machine, node_secrets
from quarterdeck.cli.nodes_common import (
    ask_nodes,
    change_of,
    change_options,
    command,
    goes_on,
    json_option,
    nodes_option,
    settings,
    silent,
    tell_missing,
    with_node,
)
from quarterdeck.errors import QuarterdeckError, Unavailable

if TYPE_CHECKING:
    from quarterdeck.node.client import NodeClient
    from quarterdeck.node.results import NodeInfo, ServiceResult, SnapshotInfo


@click.group("node")
def group() -> None:
    """Machines that run containers."""


@group.command("list")
@json_option
@command
async def list_(as_json: bool) -> int:
    """The nodes of cli.toml, all asked at once."""
    from quarterdeck.cli import nodes_render as render

    config = settings()
    if not config.file.nodes:
        if as_json:
            render.say_json({"nodes": {}, "errors": {}})
        else:
            click.echo(f"{config.path} has no node; `qd node join NAME ADDRESS` adds one")
        return 0

    async def ask(client: NodeClient) -> NodeInfo:
        return await client.node_info()

    answers, errors = await ask_nodes(config, (), ask)
    if as_json:
        render.say_json({"nodes": answers, "errors": render.errors_json(errors)})
        return tell_missing(errors)
    rows = []
    for name, node in sorted(config.file.nodes.items()):
        info = answers.get(name)
        if info is None:
            rows.append((name, node.address, render.paint(_why(errors[name]), render.BAD), "", "", "", ""))
            continue
        rows.append(
            (
                name,
                node.address,
                _state(info),
                f"{info.containers_running}/{info.containers_desired}",
                str(info.services),
                f"{render.size(info.memory_available)} free",
                f"{render.size(info.disk_free)} free",
            )
        )
    render.table(("NODE", "ADDRESS", "STATE", "RUNNING", "SERVICES", "MEMORY", "DISK"), rows)
    return tell_missing(errors)


def _why(error: QuarterdeckError) -> str:
    if silent(error):
        return "unreachable"
    return "failed" if isinstance(error, Unavailable) else error.code.lower().replace("_", " ")


def _state(info: NodeInfo) -> str:
    from quarterdeck.cli import nodes_render as render

    if info.runtime is None:
        return render.paint("podman does not answer", render.BAD)
    words = [word for word, on in (("draining", info.draining), ("paused", info.paused)) if on]
    return render.paint(", ".join(words), render.NOTE) if words else render.paint("up", render.GOOD)


@group.command("info")
@click.argument("node", required=False)
@json_option
@command
async def info(node: str | None, as_json: bool) -> int:
    """Facts about a node."""
    from quarterdeck.cli import nodes_render as render

    config = settings()
    name = config.pick(node)
    found = await with_node(config, name, lambda client: client.node_info())
    if as_json:
        render.say_json(found)
        return 0
    runtime = found.runtime
    facts = {
        "node": f"{found.name} ({found.hostname}) at {config.node(name).address}",
        "state": _state(found),
        "agent": f"quarterdeck {found.version}, up {render.since(found.started_at)}, registry schema {found.schema}",
        "runtime": f"podman {runtime.version} ({runtime.kind})" if runtime else found.runtime_error,
        "system": f"{found.os}, {found.kernel}, {found.cpus} cores",
        "memory": f"{render.size(found.memory_available)} of {render.size(found.memory_total)} available",
        "disk": f"{render.size(found.disk_free)} of {render.size(found.disk_total)} free",
        "services": f"{found.services}, {found.containers_running} of {found.containers_desired} containers running",
        "labels": ", ".join(f"{key}={value}" for key, value in sorted((found.labels or {}).items())),
    }
    for key, value in facts.items():
        if value:
            click.echo(f"{key + ':':10} {value}")
    return 0


@group.command("add")
@click.argument("name")
@click.argument("address", metavar="HOST:PORT")
@click.option("--ca", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Its CA, PEM.")
@click.option("--server-name", default="", help="The name in its certificate, where that is not HOST.")
@click.option("--replace", is_flag=True, help="In place of a node of this name.")
@json_option
@command
async def add(name: str, address: str, ca: Path, server_name: str, replace: bool, as_json: bool) -> int:
    """Write a node into cli.toml whose CA you have as a file (`join` fetches and pins it)."""
    from quarterdeck.cli import nodes_render as render

    config = settings()
    pem = ca.read_bytes().decode(errors="replace")
    node_machine.keep_node(config, name, address, pem, origin=str(ca), server_name=server_name, replace=replace)
    value = {"node": name, "address": address, "path": str(config.path)}
    render.answer(value, f"{name}: added to {config.path}; `qd login {name}` gets a token", as_json=as_json)
    return 0


@group.command("remove")
@click.argument("name")
@json_option
@command
async def remove(name: str, as_json: bool) -> int:
    """Take a node out of cli.toml and forget its token; nothing is done on the node."""
    from quarterdeck.cli import nodes_render as render
    from quarterdeck.node.cli_settings import remove_node

    config = settings()
    remove_node(config.path, name)
    forgotten = config.credentials.remove(name)
    value = {"node": name, "path": str(config.path), "forgotten": forgotten}
    render.answer(value, f"{name}: taken out of {config.path}; what runs there goes on", as_json=as_json)
    return 0


@group.command("drain")
@click.argument("node", required=False)
@click.option("--stop", is_flag=True, help="Stop every managed container too; desired states are kept.")
@change_options
@json_option
@command
async def drain(node: str | None, stop: bool, as_json: bool, **options: Any) -> int:
    """A node takes no more deploys until `qd node resume`."""
    from quarterdeck.cli import nodes_render as render

    config = settings()
    name = config.pick(node)
    with goes_on():
        results: tuple[ServiceResult, ...] = await with_node(
            config, name, lambda client: client.drain(change_of(options), stop=stop)
        )
    if as_json:
        render.say_json(results)
    else:
        for each in results:
            for part in each.components:
                render.result(each.service, part)
        click.echo(f"{name}: takes no deploys until `qd node resume {name}`")
    return 0 if all(each.ok for each in results) else 1


@group.command("pause")
@click.argument("node", required=False)
@change_options
@json_option
@command
async def pause(node: str | None, as_json: bool, **options: Any) -> int:
    """No restarts and no enforcement on a node, for as long as somebody works on it by hand."""
    from quarterdeck.cli import nodes_render as render

    config = settings()
    name = config.pick(node)
    await with_node(config, name, lambda client: client.pause(change_of(options)))
    text = f"{name}: no restarts and no enforcement until `qd node resume {name}`"
    render.answer({"node": name, "paused": True}, text, as_json=as_json)
    return 0


@group.command("resume")
@click.argument("node", required=False)
@change_options
@json_option
@command
async def resume(node: str | None, as_json: bool, **options: Any) -> int:
    """Undo `drain` and `pause`; containers that should run are started again."""
    from quarterdeck.cli import nodes_render as render

    config = settings()
    name = config.pick(node)
    await with_node(config, name, lambda client: client.resume(change_of(options)))
    render.answer({"node": name, "paused": False}, f"{name}: resumed", as_json=as_json)
    return 0


@group.command("snapshot")
@nodes_option
@click.option(
    "--config", type=click.Path(path_type=Path), help="On the node itself, without asking its agent: node.toml."
)
@change_options
@json_option
@command
async def snapshot(nodes: tuple[str, ...], config: Path | None, as_json: bool, **options: Any) -> int:
    """Make a checked copy of nodes' registries, on the nodes."""
    from quarterdeck.cli import nodes_render as render

    if config is not None:
        taken = await node_machine.local_snapshot(config)
        render.say_json(taken) if as_json else click.echo(f"{taken.path}: {render.size(taken.size)}")
        return 0

    async def ask(client: NodeClient) -> SnapshotInfo:
        return await client.snapshot(change_of(options))

    answers, errors = await ask_nodes(settings(), nodes, ask)
    if as_json:
        render.say_json({"nodes": answers, "errors": render.errors_json(errors)})
    else:
        for name, each in answers.items():
            click.echo(f"{name}: {each.path}: {render.size(each.size)}, {each.services} services")
    return tell_missing(errors)


@group.command("snapshots")
@nodes_option
@json_option
@command
async def snapshots(nodes: tuple[str, ...], as_json: bool) -> int:
    """The snapshots that nodes have, newest first."""
    from quarterdeck.cli import nodes_render as render

    async def ask(client: NodeClient) -> tuple[SnapshotInfo, ...]:
        return await client.list_snapshots()

    answers, errors = await ask_nodes(settings(), nodes, ask)
    if as_json:
        render.say_json({"nodes": answers, "errors": render.errors_json(errors)})
    else:
        rows = [
            (name, render.moment(each.at), str(each.services), render.size(each.size), each.path)
            for name, found in answers.items()
            for each in found
        ]
        render.table(("NODE", "TAKEN", "SERVICES", "SIZE", "PATH"), rows)
    return tell_missing(errors)


@group.command("restore")
@click.argument("path", metavar="SNAPSHOT")
@click.option("--node", "-N", metavar="NAME", help="The node; by default the only one.")
@click.option("--config", type=click.Path(path_type=Path), help="On the node itself, its agent stopped: node.toml.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@change_options
@json_option
@command
async def restore(path: str, node: str | None, config: Path | None, yes: bool, as_json: bool, **options: Any) -> int:
    """Put a snapshot in the place of a node's registry, after a snapshot of what is there."""
    from quarterdeck.cli import nodes_render as render

    if not yes:
        click.confirm("Put this snapshot in the registry's place?", abort=True, err=True)
    if config is not None:
        restored = await node_machine.local_restore(config, path)
    else:
        client_settings = settings()
        restored = await with_node(
            client_settings, client_settings.pick(node), lambda client: client.restore(path, change_of(options))
        )
    if as_json:
        render.say_json(restored)
    else:
        click.echo(f"{restored.path}: restored, {restored.services} services; `qd service status` shows what differs")
    return 0


for _command in (*node_machine.COMMANDS, *node_secrets.COMMANDS):
    group.add_command(_command)
