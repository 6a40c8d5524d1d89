"""What becomes of a deploy, and of a secret, that a killed agent left: whether it had come to its end."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from quarterdeck.errors import QuarterdeckError, StorageRefused, Unavailable
from quarterdeck.node.answers import error_answer, result_answer
from quarterdeck.node.context import Context, event
from quarterdeck.node.deploy import with_head
from quarterdeck.node.model import ComponentRecord, Operation, OperationState, Planned, ServiceRecord
from quarterdeck.node.podman_secrets import TRIAL, trial_mark
from quarterdeck.node.registry import Registry
from quarterdeck.node.removal import remove
from quarterdeck.node.results import ComponentResult, HistoryEntry, Outcome, ServiceResult

log = logging.getLogger(__name__)
# As earlier versions named them: nobody makes such ones any more.
_OLD_TRIAL = re.compile(TRIAL + r"[0-9a-f]{16}")


async def deployed(context: Context, operation: Operation) -> tuple[str, OperationState]:
    """Whether a deploy had come to its end but for removals and the answer; otherwise what is as before."""
    record, entry = await context.store.read(lambda registry: _begun(registry, operation))
    if record is None or entry is None:
        return error_answer(interrupted(operation, "nothing of it was done; deploy again")), "failed"
    planned = operation.plan.get(operation.service, {})
    names = {each.name for each in entry.definition.components}
    done = {each.name for each in record.components if _as_defined(each, entry, planned.get(each.name))}
    if done == names:
        for each in record.components:
            if each.name not in names and each.name in planned:
                await remove(context, each)
    else:
        await put_back_removed(context, operation)

    def work(registry: Registry) -> tuple[str, OperationState]:
        record = registry.service(operation.service)
        if len(done) == len(names) == len(record.components):
            images = {each.name: each.image_digest for each in record.components if each.image_digest}
            registry.add_history(entry.definition, entry.generation, entry.at, entry.actor, ok=True, images=images)
            registry.put_service(with_head(entry.definition, record, entry.generation))
            return result_answer(_result(operation, entry, record.components)), "done"
        if not record.components:
            # Its first deploy: of a service that never came to be nothing stays.
            registry.remove_service(operation.service)
        others = sorted((names | {each.name for each in record.components}) - done)
        text = f"as asked for: {', '.join(sorted(done)) or 'none'}; as before: {', '.join(others)}"
        return error_answer(interrupted(operation, "deploy again", text)), "failed"

    return await context.store.write(work)


def _begun(registry: Registry, operation: Operation) -> tuple[ServiceRecord | None, HistoryEntry | None]:
    """The service and the generation that this operation began; None where it had not come so far."""
    entry = next((each for each in registry.history(operation.service) if each.current), None)
    if entry is None or entry.at < operation.started_at:
        return None, None
    return registry.find(operation.service), entry


def _as_defined(each: ComponentRecord, entry: HistoryEntry, planned: Planned | None) -> bool:
    """Whether it is what was asked for: its definition, and the very container that was planned.

    The definition alone does not tell: behind the same tag, or the same env file, there may be something else now.
    """
    spec = entry.definition.component(each.name)
    seen = each.observed
    if spec != each.spec or (seen.state == "running") != entry.definition.active:
        return False
    if planned is None or planned.action == "keep":
        return True
    return seen.spec_hash == planned.spec_hash and planned.image in ("", seen.image_digest)


async def put_back_removed(context: Context, operation: Operation) -> None:
    """Start those again that were to be removed and had been stopped for others that did not come to be."""
    for service, planned in operation.plan.items():
        record = await context.store.read(lambda registry, name=service: registry.find(name))  # type: ignore[misc]
        for each in record.components if record else ():
            plan = planned.get(each.name)
            if plan is None or plan.action != "remove" or not plan.running or each.desired != "running":
                continue
            try:
                await context.runtime.start(each.container_name)
            except StorageRefused:
                raise
            except QuarterdeckError as error:
                # Its port may be another's now; that is drift, and shown as such.
                log.error("%s was not started again: %s", each.container_name, error.message)
            watched = await context.look(each.container_name, each.observed)
            await context.store.write(lambda r, e=each, w=watched: r.observe(e.service, e.name, w))  # type: ignore[misc]


def _result(operation: Operation, entry: HistoryEntry, components: tuple[ComponentRecord, ...]) -> ServiceResult:
    def outcome(each: ComponentRecord) -> Outcome:
        return "replaced" if each.generation == entry.generation else "unchanged"

    results = tuple(
        ComponentResult(each.name, outcome(each), "", each.observed.container_id, each.image_digest)
        for each in components
    )
    return ServiceResult(operation.service, operation.id, entry.generation, results)


def interrupted(operation: Operation, hint: str, text: str = "") -> Unavailable:
    """What the caller of a killed operation hears."""
    more = f"; {text}" if text else ""
    return Unavailable(
        f"the node agent was killed in the middle of {operation.kind} {operation.service}{more}", hint=hint
    )


async def sweep_trials(context: Context) -> None:
    """Remove the copies of secrets that a killed agent was trying out. Raises `Unavailable` of the runtime."""
    mine = trial_mark(context.options.state_dir)
    for name in await context.runtime.secrets():
        if name.startswith(mine) or _OLD_TRIAL.fullmatch(name):
            await context.runtime.remove_secret(name)
            log.warning("removed %s, the copy of a secret that was being replaced", name)


async def secret_set(context: Context, operation: Operation, asked: Mapping[str, object]) -> tuple[str, OperationState]:
    """An older podman replaces a secret by removing it first: killed between, there is none of that name."""
    name = str(asked.get("name", ""))
    if name in await context.runtime.secrets():
        hint = f"set it again: secret {name} has the old value or the new one"
        return error_answer(interrupted(operation, hint)), "failed"
    text = f"secret {name} is gone, set it again"
    await context.store.write(lambda registry: registry.add_event(event("", "", "recovered", text)))
    return error_answer(interrupted(operation, f"qd node secret set {name}", text)), "failed"
