"""`qd service sync|adopt|show|edit|export`: definitions here and what the nodes hold."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quarterdeck.cli.nodes_common import (
    change_of,
    change_options,
    command,
    goes_on,
    json_option,
    node_option,
    nodes_option,
    settings,
    target,
    tell_missing,
    with_node,
)

if TYPE_CHECKING:
    from quarterdeck.errors import QuarterdeckError
    from quarterdeck.node.cli_settings import CliSettings
    from quarterdeck.node.client import NodeClient, Target
    from quarterdeck.node.model import ServiceDef
    from quarterdeck.node.results import SyncSummary


@click.command("sync")
@nodes_option
@click.option(
    "--prune", is_flag=True, help="Remove services and components that are not defined any more, with their containers."
)
@click.option(
    "--apply",
    is_flag=True,
    help="Deploy or stop what changed, not only write it down; nothing is removed without --prune.",
)
@click.option("--plan", "plan_only", is_flag=True, help="Tell what would happen and do nothing.")
@change_options
@json_option
@command
async def sync(nodes: tuple[str, ...], prune: bool, apply: bool, plan_only: bool, as_json: bool, **options: Any) -> int:
    """Make the nodes' registries say what the definitions' folder says; containers are left alone without --apply."""
    from quarterdeck.cli import nodes_render as render
    from quarterdeck.errors import InvalidInput, QuarterdeckError
    from quarterdeck.node import servicedef
    from quarterdeck.node.transfer import ask_all

    config = settings()
    defined: dict[str, list[ServiceDef]] = {}
    for each in servicedef.load_folder(config.definitions):
        defined.setdefault(each.service.node, []).append(each.service)
    wanted = nodes or tuple(sorted({*config.file.nodes, *defined}))
    bare = [name for name in wanted if name not in defined]
    if prune and bare:
        raise InvalidInput(
            f"{config.definitions} defines nothing for {', '.join(bare)}: pruning would remove all; nothing was done",
            hint="--node names the nodes that are meant; `qd service purge` removes single services",
        )
    targets: dict[str, Target | QuarterdeckError] = {}
    for name in wanted:
        try:
            targets[name] = target(config, name)
        except QuarterdeckError as error:
            targets[name] = error

    change = change_of(options)

    async def one(client: NodeClient) -> SyncSummary:
        name = client.name
        return await client.sync_desired_state(
            defined.get(name, []), change, prune=prune, apply=apply, plan_only=plan_only
        )

    with contextlib.nullcontext() if plan_only else goes_on():
        found = await ask_all(targets, one)
    errors = {name: each for name, each in found.items() if isinstance(each, QuarterdeckError)}
    summaries = {name: each for name, each in found.items() if not isinstance(each, QuarterdeckError)}
    if as_json:
        render.say_json({"nodes": summaries, "errors": render.errors_json(errors)})
    else:
        for name, summary in summaries.items():
            _say_summary(name, summary)
    return tell_missing(errors) or (0 if all(each.ok for each in summaries.values()) else 1)


def _say_summary(node: str, summary: SyncSummary) -> None:
    from quarterdeck.cli import nodes_render as render

    would = "would be " if summary.plan_only else ""
    for item in summary.items:
        text = f": {item.message}" if item.message else ""
        word = item.outcome if item.outcome in ("unchanged", "failed") else f"{would}{item.outcome}"
        click.echo(f"{node}: {item.service}: {render.paint(word, render.outcome_colour(item.outcome))}{text}")
        render.changes(item.changes)
    if summary.undefined:
        click.echo(f"{node}: not defined here, kept (remove with --prune): {', '.join(summary.undefined)}")
    if not summary.items and not summary.undefined:
        click.echo(f"{node}: nothing to do")


@click.command("adopt")
@click.argument("service")
@node_option
@change_options
@json_option
@command
async def adopt(service: str, node: str | None, as_json: bool, **options: Any) -> int:
    """Take over the containers named SERVICE and SERVICE-*, as they are; nothing is restarted."""
    from quarterdeck.cli import nodes_render as render

    config = settings()
    name = config.pick(node)
    result = await with_node(config, name, lambda client: client.adopt_containers(service, change_of(options)))
    failed = [each for each in result.containers if each.outcome == "failed"]
    if as_json:
        render.say_json(result)
        return 1 if failed else 0
    for each in result.containers:
        text = f": {each.message}" if each.message else ""
        state = f", should be {each.desired} from now on" if each.outcome == "adopted" else ""
        click.echo(f"{each.container_name}: {render.outcome(each.outcome)} as {each.component or '-'}{state}{text}")
        for warning in each.warnings:
            click.echo(f"    {render.paint('left out', render.NOTE)}: {warning}")
    click.echo(
        f"{service} on {name}: generation {result.generation}; `qd service export {service}` writes its definition"
    )
    return 1 if failed else 0


@click.command("show")
@click.argument("service")
@node_option
@json_option
@command
async def show(service: str, node: str | None, as_json: bool) -> int:
    """A service's definition: the file's, else the node's."""
    from quarterdeck.cli import nodes_render as render
    from quarterdeck.cli.service_where import definition
    from quarterdeck.node import servicedef

    found = await definition(settings(), service, node=node, file=None)
    if as_json:
        render.say_json(found.service)
    else:
        click.echo(found.path.read_text() if found.path else servicedef.dumps(found.service), nl=False)
    return 0


@click.command("export")
@click.argument("service")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="The file; by default SERVICE.toml in the folder."
)
@click.option("--stdout", "to_stdout", is_flag=True, help="Print it instead.")
@node_option
@json_option
@command
async def export(service: str, output: Path | None, to_stdout: bool, node: str | None, as_json: bool) -> int:
    """Write the definition that deploys to what a node runs now; comments of a file that is there are kept."""
    from quarterdeck.cli import nodes_render as render
    from quarterdeck.cli.service_where import holder
    from quarterdeck.node import servicedef

    config = settings()
    name = await holder(config, service, node=node)
    found = await with_node(config, name, lambda client: client.export(service))
    found = replace(found, node=name)
    if to_stdout:
        render.say_json(found) if as_json else click.echo(servicedef.dumps(found), nl=False)
        return 0
    path = output or _path_for(config, service, name)
    changed = servicedef.write(path, found)
    value = {"service": service, "node": name, "path": str(path), "changed": changed}
    render.answer(value, f"{path}: {'written' if changed else 'says so already'}", as_json=as_json)
    return 0


def _path_for(config: CliSettings, service: str, node: str) -> Path:
    from quarterdeck.cli.service_where import in_folder

    known = in_folder(config, service, node=node)
    return known.path if known is not None else config.definitions / f"{service}.toml"


@click.command("edit")
@click.argument("service")
@node_option
@json_option
@command
async def edit(service: str, node: str | None, as_json: bool) -> int:
    """Edit a service's definition in your editor; without a file it is exported from its node first."""
    from quarterdeck.cli import nodes_render as render
    from quarterdeck.cli.service_where import definition, file_in_folder
    from quarterdeck.config import variable
    from quarterdeck.errors import InvalidInput
    from quarterdeck.node import servicedef

    config = settings()
    # Not checked: a broken definition is a reason to edit it.
    path = file_in_folder(config, service, node=node or "")
    if path is None:
        found = await definition(config, service, node=node, file=None)
        path = config.definitions / f"{service}.toml"
        servicedef.write(path, found.service)
        click.echo(f"{path}: exported from node {found.node}", err=True)
    before = path.read_text()
    editor = variable("VISUAL") or variable("EDITOR") or "vi"
    while True:
        click.edit(filename=str(path), editor=editor)
        try:
            servicedef.load(path)
        except InvalidInput as error:
            click.echo(error.message, err=True)
            if not click.confirm("Edit again?", default=True, err=True):
                raise
            continue
        break
    changed = path.read_text() != before
    text = f"written; `qd service deploy {service} --plan` shows what it would do" if changed else "not changed"
    value = {"service": service, "path": str(path), "changed": changed}
    render.answer(value, f"{path}: {text}", as_json=as_json)
    return 0


COMMANDS = (sync, adopt, show, export, edit)
