"""Where a service's definition is and which node is meant: file, definitions' folder, registry, in this order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from quarterdeck.cli.nodes_common import ask_nodes, with_node
from quarterdeck.errors import InvalidInput, NotFound, QuarterdeckError

if TYPE_CHECKING:
    from quarterdeck.node.cli_settings import CliSettings
    from quarterdeck.node.client import NodeClient
    from quarterdeck.node.model import ServiceDef
    from quarterdeck.node.servicedef import Definition


@dataclass(frozen=True)
class Found:
    """A definition, the node it is for, and the file where it came from one."""

    service: ServiceDef
    node: str
    path: Path | None


class Nowhere(NotFound):
    """All nodes were asked, and none of those that answered has the service."""


async def definition(config: CliSettings, service: str, *, node: str | None, file: Path | None) -> Found:
    """The definition of a service: from the file, the definitions' folder, else the node's registry.

    Raises `NotFound` that says where it was looked for, `InvalidInput` when a file is broken or is for
    another service.
    """
    from quarterdeck.node import servicedef

    if file is not None:
        loaded = servicedef.load(file)
        if loaded.name != service:
            raise InvalidInput(
                f"{file} defines {loaded.name!r}, not {service!r}; nothing was done",
                hint=f"`qd service ... {loaded.name}`",
            )
        return Found(loaded, _node_of(config, loaded, node), file)
    found = in_folder(config, service, node=node or "")
    if found is not None:
        return Found(found.service, _node_of(config, found.service, node), found.path)
    hint = f"write {config.definitions}/{service}.toml, give -f FILE, or `qd service adopt {service}`"
    try:
        name = await holder(config, service, node=node)
    except Nowhere as error:
        raise NotFound(f"{config.definitions} does not define {service!r}, and {error.message}", hint=hint) from None
    try:
        exported = await with_node(config, name, lambda client: client.export(service))
    except NotFound:
        text = f"{service!r} is defined neither in {config.definitions} nor on node {name}"
        raise NotFound(text, hint=hint) from None
    return Found(replace(exported, node=exported.node or name), name, None)


_broken: set[str] = set()


def in_folder(config: CliSettings, service: str, *, node: str = "") -> Definition | None:
    """The definition in the definitions' folder. A broken file of another service is told, once, and left alone.

    Raises `InvalidInput` when it is broken itself or there are several.
    """
    from quarterdeck.node import servicedef

    return servicedef.find(config.definitions, service, node=node, passed_over=_tell_broken)


def file_in_folder(config: CliSettings, service: str, *, node: str = "") -> Path | None:
    """The file in the definitions' folder that means to define a service, broken or not.

    Raises `InvalidInput` when there are several.
    """
    from quarterdeck.node import servicedef

    found = servicedef.files_of(config.definitions, service, node=node, passed_over=_tell_broken)
    if len(found) > 1:
        raise InvalidInput(
            f"{service!r} is defined more than once: {', '.join(map(str, found))}",
            hint="say which with --node, or open that file",
        )
    return found[0] if found else None


def _tell_broken(text: str) -> None:
    import click

    if text not in _broken:
        _broken.add(text)
        click.echo(f"passed over: {text}", err=True)


def _node_of(config: CliSettings, service: ServiceDef, node: str | None) -> str:
    return config.pick(node or service.node)


async def holder(config: CliSettings, service: str, *, node: str | None) -> str:
    """The node that a service is on: the named one, the definition's, the only one, else the one that has it.

    Raises `Nowhere` when none has it, `NotFound` without a node to ask, `InvalidInput` when several have it.
    """
    if node:
        return config.pick(node)
    try:
        defined = in_folder(config, service)
    except InvalidInput:
        defined = None
    if defined is not None and defined.service.node in config.file.nodes:
        return defined.service.node
    if config.file.default_node or len(config.file.nodes) <= 1:
        return config.pick(None)

    async def has(client: NodeClient) -> bool:
        try:
            return bool(await client.list_services(service=service))
        except NotFound:
            return False

    answers, errors = await ask_nodes(config, (), has)
    having = [name for name, found in answers.items() if found]
    if len(having) == 1:
        return having[0]
    if having:
        raise InvalidInput(f"{service!r} is on several nodes: {', '.join(having)}", hint="say which with --node")
    silent = f"; no answer from {', '.join(errors)}" if errors else ""
    raise Nowhere(f"no node has a service {service!r}{silent}", hint="`qd service list` shows all")


async def write_active(config: CliSettings, service: str, node: str, *, active: bool) -> Path | None:
    """Write `active` into the service's definition where there is one; the file when it changed.

    A broken definition is no reason not to stop a service: it is left alone.
    """
    from quarterdeck.node import servicedef

    try:
        found = in_folder(config, service, node=node)
        if found is not None and servicedef.set_active(found.path, active):
            return found.path
    except QuarterdeckError as error:
        import click

        click.echo(f"`active` was not written: {error.message}", err=True)
    return None
