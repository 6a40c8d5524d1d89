"""`qd service`: what runs on the nodes. This file deploys, stops and starts; the others look and define."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quarterdeck.cli import service_files, service_look, service_sync
from quarterdeck.cli.nodes_common import (
    change_of,
    change_options,
    command,
    goes_on,
    json_option,
    node_option,
    settings,
    split_name,
    with_node,
)

if TYPE_CHECKING:
    from quarterdeck.node.client import Change, NodeClient
    from quarterdeck.node.results import DeployProgress, ServiceResult


@click.group("service")
def group() -> None:
    """Run services in containers on nodes."""


plan_option = click.option("--plan", "plan_only", is_flag=True, help="Tell what would happen and do nothing.")


@group.command("deploy")
@click.argument("name", metavar="SERVICE[/COMPONENT]")
@click.option("--file", "-f", "file", type=click.Path(path_type=Path), help="The definition's file.")
@node_option
@plan_option
@change_options
@json_option
@command
async def deploy(name: str, file: Path | None, node: str | None, plan_only: bool, as_json: bool, **options: Any) -> int:
    """Make a node run a definition.

    The definition comes from -f FILE, else from the definitions' folder, else from the node's registry.
    The old containers stay until the new ones are healthy, and are put back when they are not.
    """
    from quarterdeck.cli.service_where import definition

    config = settings()
    service, component = split_name(name)
    found = await definition(config, service, node=node, file=file)
    components = (component,) if component else ()

    async def work(client: NodeClient) -> int:
        steps = client.deploy(found.service, change_of(options), components=components, plan_only=plan_only)
        return await _follow(steps, service, plan_only=plan_only, as_json=as_json)

    return await with_node(config, found.node, work)


@group.command("rollback")
@click.argument("service")
@click.option("--to", "generation", type=int, metavar="GENERATION", help="By default the last one that went well.")
@node_option
@plan_option
@change_options
@json_option
@command
async def rollback(
    service: str, generation: int | None, node: str | None, plan_only: bool, as_json: bool, **options: Any
) -> int:
    """Deploy an earlier definition of a service again."""
    from quarterdeck.cli.service_where import holder

    config = settings()

    async def work(client: NodeClient) -> int:
        steps = client.rollback(service, change_of(options), generation=generation, plan_only=plan_only)
        return await _follow(steps, service, plan_only=plan_only, as_json=as_json)

    return await with_node(config, await holder(config, service, node=node), work)


async def _follow(steps: AsyncIterator[DeployProgress], service: str, *, plan_only: bool, as_json: bool) -> int:
    with nullcontext() if plan_only else goes_on(service):
        return await _told(steps, as_json=as_json)


async def _told(steps: AsyncIterator[DeployProgress], *, as_json: bool) -> int:
    from quarterdeck.cli import nodes_render as render

    code = 0
    async for step in steps:
        if not as_json:
            render.progress(step)
        if step.step != "done":
            continue
        if as_json:
            render.say_json(step.plan if step.plan is not None else step.final)
        elif step.plan is not None:
            render.plan(step.plan)
        elif step.final is not None:
            unchanged = all(each.outcome == "unchanged" for each in step.final.components)
            word = "nothing to change" if unchanged else "deployed" if step.final.ok else "not deployed as asked for"
            click.echo(f"{step.service}: {word}, generation {step.final.generation}")
        code = 0 if step.final is None or step.final.ok else 1
    return code


async def _act(
    name: str,
    node: str | None,
    options: dict[str, Any],
    act: Callable[[NodeClient, str, str, Change], Any],
    *,
    as_json: bool,
    active: bool | None,
) -> int:
    """Stop, start or restart; for a whole service `active` goes into its definition too."""
    from quarterdeck.cli import nodes_render as render
    from quarterdeck.cli.service_where import holder, write_active

    config = settings()
    service, component = split_name(name)
    where = await holder(config, service, node=node)
    with goes_on(service):
        result: ServiceResult = await with_node(
            config, where, lambda client: act(client, service, component, change_of(options))
        )
    if as_json:
        render.say_json(result)
    for each in () if as_json else result.components:
        render.result(service, each)
    if active is not None and not component:
        written = await write_active(config, service, where, active=active)
        if written is not None and not as_json:
            click.echo(f"{written}: active = {str(active).lower()}")
    return 0 if result.ok else 1


@group.command("stop")
@click.argument("name", metavar="SERVICE[/COMPONENT]")
@node_option
@change_options
@json_option
@command
async def stop(name: str, node: str | None, as_json: bool, **options: Any) -> int:
    """Stop a service (then `active = false` is written into its definition) or one component."""
    return await _act(
        name,
        node,
        options,
        lambda client, service, component, change: client.stop_service(service, change, component=component),
        as_json=as_json,
        active=False,
    )


@group.command("start")
@click.argument("name", metavar="SERVICE[/COMPONENT]")
@node_option
@change_options
@json_option
@command
async def start(name: str, node: str | None, as_json: bool, **options: Any) -> int:
    """Start a service (then `active = true` is written into its definition) or one component."""
    return await _act(
        name,
        node,
        options,
        lambda client, service, component, change: client.start_service(service, change, component=component),
        as_json=as_json,
        active=True,
    )


@group.command("restart")
@click.argument("name", metavar="SERVICE[/COMPONENT]")
@node_option
@change_options
@json_option
@command
async def restart(name: str, node: str | None, as_json: bool, **options: Any) -> int:
    """Stop and start a service or one component; its definition is not touched."""
    return await _act(
        name,
        node,
        options,
        lambda client, service, component, change: client.restart_service(service, change, component=component),
        as_json=as_json,
        active=None,
    )


@group.command("purge")
@click.argument("service")
@click.option("--files", is_flag=True, help="Remove the service's folder on the node too.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@node_option
@change_options
@json_option
@command
async def purge(service: str, files: bool, yes: bool, node: str | None, as_json: bool, **options: Any) -> int:
    """Remove a service with its containers from its node and forget it; named volumes stay."""
    from quarterdeck.cli.service_where import holder

    if not yes:
        where = await holder(settings(), service, node=node)
        also = ", its history and its folder" if files else " and its history"
        click.confirm(f"Remove the containers of {service} on {where}{also}?", abort=True, err=True)
    return await _act(
        service,
        node,
        options,
        lambda client, name, component, change: client.purge_service(name, change, files=files),
        as_json=as_json,
        active=None,
    )


async def _pause(service: str, node: str | None, options: dict[str, Any], *, paused: bool, as_json: bool) -> int:
    from quarterdeck.cli import nodes_render as render
    from quarterdeck.cli.service_where import holder

    config = settings()

    async def work(client: NodeClient) -> None:
        if paused:
            await client.pause(change_of(options), service=service)
        else:
            await client.resume(change_of(options), service=service)

    where = await holder(config, service, node=node)
    await with_node(config, where, work)
    text = f"{service}: {'no restarts and no enforcement until `qd service resume`' if paused else 'resumed'}"
    render.answer({"service": service, "node": where, "paused": paused}, text, as_json=as_json)
    return 0


@group.command("pause")
@click.argument("service")
@node_option
@change_options
@json_option
@command
async def pause(service: str, node: str | None, as_json: bool, **options: Any) -> int:
    """No restarts and no enforcement of a service, for as long as somebody works on it by hand."""
    return await _pause(service, node, options, paused=True, as_json=as_json)


@group.command("resume")
@click.argument("service")
@node_option
@change_options
@json_option
@command
async def resume(service: str, node: str | None, as_json: bool, **options: Any) -> int:
    """Undo `pause`."""
    return await _pause(service, node, options, paused=False, as_json=as_json)


for _command in (*service_look.COMMANDS, *service_sync.COMMANDS, *service_files.COMMANDS):
    group.add_command(_command)
