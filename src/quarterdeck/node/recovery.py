"""What a killed agent left: found at the next start, finished where that is safe, undone otherwise.

Nothing is guessed from a journal: the names and labels of the containers and the rows of the registry say how
far an operation came. A swap whose new container is in the registry is finished; any other is undone. Stop,
start, restart, purge and adopt are done again (they may be, any number of times); a deploy is undone where it
was not finished; what else was interrupted is told so. Each gets its answer, so that a retry learns it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio
import msgspec
from anyio.to_thread import run_sync

from quarterdeck import proctree
from quarterdeck.errors import QuarterdeckError, StorageRefused, Unavailable
from quarterdeck.node import interrupted, marks
from quarterdeck.node.answers import error_answer, result_answer
from quarterdeck.node.context import NEW, OLD, Context, event, seen, transition
from quarterdeck.node.lifecycle import Lifecycle
from quarterdeck.node.model import ComponentRecord, Operation, OperationState
from quarterdeck.node.podman_json import LABEL_NODE, LABEL_OPERATION, LABEL_SERVICE, LABEL_SPEC
from quarterdeck.node.registry import Registry
from quarterdeck.node.results import ServiceResult
from quarterdeck.node.runtime import Container
from quarterdeck.node.takeover import adopt

log = logging.getLogger(__name__)
IN_FLIGHT_SECONDS = 30
SETTLE_SECONDS = 1.0


async def recover(context: Context) -> int:
    """Clean up after an agent that was killed; how many operations it had in progress.

    Raises `Unavailable` when the runtime does not answer: nothing is decided then, call it again.
    """
    operations = await context.store.read(lambda registry: registry.running_operations())
    if operations:
        await _last_words(context)
    await interrupted.sweep_trials(context)
    await settle(context, {each.id for each in operations})
    for operation in operations:
        try:
            answer, state = await _finish(context, operation)
        except StorageRefused:
            raise
        except QuarterdeckError as error:
            if isinstance(error, Unavailable):
                # Does podman not answer (then all of it is tried again), or is it this one thing that it cannot do?
                await context.runtime.info()
            answer, state = error_answer(error), "failed"
        await context.store.write(lambda registry, o=operation, a=answer, s=state: _close(registry, o, a, s))  # type: ignore[misc]
        log.warning(
            "operation %s (%s %s) had been interrupted: %s", operation.id, operation.kind, operation.service, state
        )
    return len(operations)


async def _last_words(context: Context) -> None:
    """Wait for what the killed agent had begun: its podman commands and calls end by themselves, later than it."""
    end = time.monotonic() + IN_FLIGHT_SECONDS
    while time.monotonic() < end and await run_sync(_commands, context.options.state_dir):  # noqa: ASYNC110
        await anyio.sleep(0.05)
    # The REST service goes on with a call whose client is gone; nothing tells when it is done.
    await anyio.sleep(SETTLE_SECONDS)


def _commands(state_dir: Path) -> bool:
    return any(each.name() == "podman" for each in proctree.marked(marks.changing(state_dir)))


def _close(registry: Registry, operation: Operation, answer: str, state: OperationState) -> None:
    registry.end_operation(operation.id, state, answer, time.time())
    if operation.kind == "snapshot":
        # Also in every snapshot that is put back: its own making was not over then.
        return
    how = "finished" if state == "done" else "undone"
    registry.add_event(
        event(operation.service.split(" ")[0], "", "recovered", f"{operation.kind} was interrupted; {how}")
    )


async def settle(context: Context, given_up: set[str], only: Sequence[str] = ()) -> None:
    """Bring every component (of the services `only`) back to one container with the plain name: the registry's.

    `given_up` are the operations that are in progress no more. Raises `Unavailable` of the runtime.
    """
    containers = {each.name: each for each in await context.runtime.list()}
    services = await context.store.read(lambda registry: registry.services(only))
    rows = {c.container_name: c for each in services if each.managed for c in each.components}
    names = {
        each.name.removesuffix(NEW).removesuffix(OLD)
        for each in containers.values()
        if not only or each.labels.get(LABEL_SERVICE) in only
    }
    for name in sorted(names | (rows.keys() if only else set())):
        try:
            await _settle(context, name, containers, rows.get(name), given_up)
        except QuarterdeckError as error:
            await _left_alone(context, rows.get(name), name, error)
    found = {each.name: each for each in await context.runtime.list()}

    def write(registry: Registry) -> None:
        for row in rows.values():
            transition(registry, row, seen(found.get(row.container_name), row.observed))

    await context.store.write(write)


async def _left_alone(context: Context, row: ComponentRecord | None, name: str, error: QuarterdeckError) -> None:
    """One container that podman cannot change must not keep the node from its work; a silent podman does."""
    if isinstance(error, StorageRefused):
        raise error
    await context.runtime.info()
    log.error("container %s was left as it is: %s", name, error.message)
    text = f"container {name} was left as it is after an interruption: {error.message}"
    told = event(row.service if row else "", row.name if row else "", "recovered", text)
    await context.store.write(lambda registry: registry.add_event(told))


async def _settle(
    context: Context,
    name: str,
    containers: Mapping[str, Container],
    row: ComponentRecord | None,
    given_up: set[str],
) -> None:
    runtime = context.runtime
    current, new, old = containers.get(name), containers.get(name + NEW), containers.get(name + OLD)
    if new is not None and new.labels.get(LABEL_NODE) == context.node_id:
        await runtime.remove(new.id)
    made_here = current is not None and current.labels.get(LABEL_OPERATION) in given_up
    if old is not None and (row is not None or old.labels.get(LABEL_NODE) == context.node_id):
        committed = current is not None and row is not None and row.observed.container_id == current.id
        if committed or (current is not None and not made_here):
            # The registry's own has the name (or somebody else's has): the old one is of no use any more.
            await runtime.remove(old.id)
            return
        if current is not None:
            await runtime.remove(current.id)
        await runtime.rename(old.id, name)
        if row is not None and row.desired == "running":
            if old.state == "running":
                # It may be about to end: the stop that was under way goes on without its caller.
                await runtime.stop(old.id, grace_seconds=row.spec.stop_seconds)
            await runtime.start(old.id)
        return
    if current is None or not made_here or (row is not None and row.observed.container_id == current.id):
        return
    if row is None or current.labels.get(LABEL_SPEC) != row.spec_hash or current.state == "created":
        # Made, but never written down as the one that is wanted.
        await runtime.remove(current.id)


async def _finish(context: Context, operation: Operation) -> tuple[str, OperationState]:
    asked = msgspec.json.decode(operation.steps or "{}")
    service = operation.service
    match operation.kind:
        case "stop" | "start" | "restart" | "purge":
            return await _again(context, operation, asked)
        case "adopt":
            done = await adopt(context, service, operation=operation.id, actor="")
            return result_answer(done), "done"
        case "deploy" | "rollback":
            return await interrupted.deployed(context, operation)
        case "set-secret":
            return await interrupted.secret_set(context, operation, asked)
        case _:
            await interrupted.put_back_removed(context, operation)
            told = interrupted.interrupted(operation, "do it again: what was done already stays")
            return error_answer(told), "failed"


async def _again(context: Context, operation: Operation, asked: Mapping[str, object]) -> tuple[str, OperationState]:
    """Do it once more, under the same id: it ends in the same state however far it had come."""
    component = str(asked.get("component", ""))
    work = Lifecycle(context, operation.service, component, operation=operation.id, actor="")
    known = await context.store.read(lambda registry: registry.find(operation.service))
    if known is None and operation.kind == "purge":
        return result_answer(ServiceResult(operation.service, operation.id, 0)), "done"
    match operation.kind:
        case "stop":
            result = await work.stop()
        case "start":
            result = await work.start()
        case "restart":
            result = await work.restart()
        case _:
            result = await work.purge(files=bool(asked.get("files")))
    return result_answer(result), "done"
