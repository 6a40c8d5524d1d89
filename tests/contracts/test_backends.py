"""The contract of `fleet.ports.Backend`, the same for every backend: a new one adds its factory to `BACKENDS`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import msgspec
import pytest

from quarterdeck import proctree
from quarterdeck.cgroup import Cgroup
from quarterdeck.errors import QuarterdeckError, Unavailable
from quarterdeck.files import write_private
from quarterdeck.fleet.backends.local import LocalBackend
from quarterdeck.fleet.backends.nursery import Nursery
from quarterdeck.fleet.model import AgentRecord
from quarterdeck.fleet.ports import Backend
from quarterdeck.sidecar.client import SidecarClient
from quarterdeck.sidecar.spec import ADDRESS_FILE, LaunchSpec
from support.clock import stepped

pytestmark = pytest.mark.anyio
Git = Callable[..., str]


@dataclass
class World:
    """A backend, and a repository whose agents it is to bring up."""

    backend: Backend
    repo: Path
    state: Path

    def record(self, name: str, **more: object) -> AgentRecord:
        """A new agent's record, its folder made as `Records.create` makes it."""
        record = AgentRecord(
            id=f"{name}-{os.getpid()}-{time.monotonic_ns()}", name=name, project="p", role="coder",
            provider="scripted", repo=str(self.repo), base="main", created_at=time.time(),
            backend=self.backend.name, **more,
        )  # type: ignore[arg-type]  # fmt: skip
        self.backend.folder(record).mkdir(parents=True)
        return record

    async def provisioned(self, record: AgentRecord) -> AgentRecord:
        """The record as the crew keeps it after `provision`."""
        made = await self.backend.provision(record)
        return replace(record, workspace=made.workspace, branch=made.branch, base_sha=made.base_sha)

    def launch(self, record: AgentRecord, *options: str) -> LaunchSpec:
        """What its sidecar is to run."""
        return LaunchSpec(
            id=record.id, name=record.name, workspace=record.workspace or "", kind="acp", provider="scripted",
            command=[sys.executable, "-m", "quarterdeck.scripted.agent", *options],
            env={"QD_SCRIPTED_HOME": str(self.state / "scripted")}, permissions="allow", base="main",
        )  # fmt: skip


@asynccontextmanager
async def local(repo: Path, state: Path) -> AsyncIterator[World]:
    yield World(LocalBackend(state / "agents"), repo, state)


@asynccontextmanager
async def local_with_nursery(repo: Path, state: Path) -> AsyncIterator[World]:
    nursery = Nursery(state / "nursery.log")
    async with anyio.create_task_group() as group:
        group.start_soon(nursery.run)
        with anyio.fail_after(20):
            while nursery._child is None:
                await anyio.sleep(0.02)
        yield World(LocalBackend(state / "agents", nursery=nursery), repo, state)
        group.cancel_scope.cancel()


BACKENDS = {"local": local, "local-nursery": local_with_nursery}


@pytest.fixture(params=sorted(BACKENDS))
async def world(request: pytest.FixtureRequest, repo: Path, tmp_path: Path) -> AsyncIterator[World]:
    """A backend; after the test no process of any of its agents is left."""
    state = tmp_path / "s"
    state.mkdir()
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(BACKENDS[request.param](repo, state))
        records: list[AgentRecord] = []
        original = made.record

        def remember(name: str, **more: object) -> AgentRecord:
            records.append(original(name, **more))
            return records[-1]

        made.record = remember  # type: ignore[method-assign]
        yield made
        for record in records:
            await made.backend.stop(record, grace_seconds=5)
            assert proctree.marked(record.id) == []


async def talk(world: World, record: AgentRecord) -> SidecarClient:
    address = await world.backend.address(record)
    assert address is not None
    return SidecarClient.connect(address, record.name)


async def test_provision_makes_a_workspace_once(world: World, git: Git) -> None:
    record = world.record("ada")
    first = await world.backend.provision(record)
    workspace = Path(first.workspace)
    assert (workspace / "README.md").read_text() == "# Sample\n"
    assert git(workspace, "rev-parse", "--abbrev-ref", "HEAD") == first.branch == "qd/ada"
    assert first.base_sha == git(world.repo, "rev-parse", "main")
    (workspace / "mine").write_text("x")
    again = await world.backend.provision(record)
    assert (again.workspace, again.branch, again.base_sha) == (first.workspace, first.branch, first.base_sha)
    assert (workspace / "mine").read_text() == "x"


async def test_provision_takes_what_is_committed_and_refuses_a_missing_repository(world: World) -> None:
    (world.repo / "README.md").write_text("changed")
    made = await world.backend.provision(world.record("dirty"))
    assert (Path(made.workspace) / "README.md").read_text() == "# Sample\n"
    lost = world.record("lost")
    with pytest.raises(QuarterdeckError):
        await world.backend.provision(replace(lost, repo=str(world.repo / "nowhere")))


async def test_a_shared_workspace_is_left_alone(world: World) -> None:
    host = await world.provisioned(world.record("host"))
    guest = world.record("guest", shares="host", workspace=host.workspace, branch=host.branch)
    made = await world.backend.provision(guest)
    assert made.workspace == host.workspace
    await world.backend.remove(replace(guest, workspace=made.workspace))
    assert host.workspace is not None
    assert Path(host.workspace).is_dir()
    with pytest.raises(QuarterdeckError):
        await world.backend.provision(replace(guest, workspace=host.workspace + "-gone"))


async def test_start_is_idempotent_and_the_sidecar_answers(world: World) -> None:
    record = await world.provisioned(world.record("eve"))
    assert await world.backend.address(record) is None
    address = await world.backend.start(record, world.launch(record))
    assert await world.backend.start(record, world.launch(record)) == address
    assert await world.backend.address(record) == address
    assert await world.backend.gone(record) is None
    client = await talk(world, record)
    facts = await client.facts()
    assert (facts.agent, facts.sidecar_pid) == ("eve", address.pid)
    await client.aclose()
    assert await world.backend.disk_use(record) > 0


async def test_gone_is_certain(world: World) -> None:
    record = await world.provisioned(world.record("tom"))
    assert await world.backend.gone(record) is not None
    address = await world.backend.start(record, world.launch(record))
    os.kill(address.pid, signal.SIGSTOP)
    assert await world.backend.gone(record) is None, "silent is not gone"
    os.kill(address.pid, signal.SIGKILL)
    with anyio.fail_after(5):
        while (reason := await world.backend.gone(record)) is None:
            await anyio.sleep(0.01)
    assert str(address.pid) in reason
    # It can be started again, as another process.
    again = await world.backend.start(record, world.launch(record))
    assert again.pid != address.pid
    assert await world.backend.gone(record) is None


async def test_stop_ends_everything_and_may_be_repeated(world: World) -> None:
    record = await world.provisioned(world.record("ben"))
    await world.backend.stop(record, grace_seconds=1)
    address = await world.backend.start(record, world.launch(record))
    client = await talk(world, record)
    task = await client.add_task("@child 300\n@once up\n@hang hard")
    await client.aclose()
    with anyio.fail_after(15):
        while not (Path(record.workspace or "") / "up").exists():
            await anyio.sleep(0.02)
    assert len(proctree.marked(record.id)) >= 2
    await world.backend.stop(record, grace_seconds=5)
    assert proctree.marked(record.id) == []
    assert not proctree.is_alive(address.pid, address.identity)
    assert await world.backend.address(record) is None
    await world.backend.stop(record, grace_seconds=1)
    # The history is still there for the next start.
    await world.backend.start(record, world.launch(record))
    client = await talk(world, record)
    tasks = await client.tasks(offset=0, limit=5)
    await client.aclose()
    assert [(t.id, t.state) for t in tasks.tasks] == [(task.id, "canceled")]


async def test_stop_ends_one_that_does_not_answer(world: World) -> None:
    record = await world.provisioned(world.record("ice"))
    address = await world.backend.start(record, world.launch(record))
    os.kill(address.pid, signal.SIGSTOP)
    await world.backend.stop(record, grace_seconds=0.5)
    assert not proctree.is_alive(address.pid, address.identity)
    assert proctree.marked(record.id) == []
    # Where cgroups can be made, the sidecar's own, which it could not remove itself.
    assert Cgroup.find(record.id) is None


async def test_stop_ends_one_that_has_not_said_where_it_is(world: World) -> None:
    """Called off between the start of the process and its first word; its hub may have been killed."""
    record = await world.provisioned(world.record("mid"))
    for delay in (0.0, 0.02, 0.1, 0.4):
        with anyio.move_on_after(delay):
            await world.backend.start(record, world.launch(record))
        await world.backend.stop(record, grace_seconds=0)
        await anyio.sleep(0.2)
        assert proctree.working_in(world.backend.folder(record), "quarterdeck") == []
        assert proctree.marked(record.id) == []
    await world.backend.start(record, world.launch(record))
    assert await world.backend.gone(record) is None


async def test_start_tells_why_it_failed(world: World) -> None:
    record = await world.provisioned(world.record("bad"))
    (world.backend.folder(record) / "agent.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(Unavailable, match=r"agent\.db"):
        await world.backend.start(record, world.launch(record))


async def test_remove_saves_and_may_be_repeated(world: World, git: Git) -> None:
    record = await world.provisioned(world.record("rem"))
    assert record.workspace is not None
    workspace = Path(record.workspace)
    (workspace / "new").write_bytes(b"\x00\xff unsaved")
    removed = await world.backend.remove(record)
    assert removed.rescue_ref is not None
    assert removed.rescue_files == 1
    assert git(world.repo, "cat-file", "-s", f"{removed.rescue_ref}:new") == "10"
    assert not workspace.exists()
    assert removed.branch_kept is None
    again = await world.backend.remove(replace(record, rescue_ref=removed.rescue_ref))
    assert again.rescue_ref == removed.rescue_ref


async def test_remove_keeps_a_branch_with_work(world: World, git: Git) -> None:
    record = await world.provisioned(world.record("kept"))
    workspace = Path(record.workspace or "")
    (workspace / "a").write_text("a")
    git(workspace, "add", "-A")
    git(workspace, "commit", "-qm", "work")
    removed = await world.backend.remove(record)
    assert removed.branch_kept == "qd/kept"
    assert git(world.repo, "show", "qd/kept:a") == "a"
    assert removed.rescue_ref is None


async def test_what_an_interrupted_provision_made_is_removed(world: World, git: Git) -> None:
    """The hub was killed after the worktree was made and before that was recorded."""
    record = world.record("half")
    made = await world.backend.provision(record)
    assert record.workspace is None
    await world.backend.remove(record)
    assert not Path(made.workspace).exists()
    assert git(world.repo, "branch", "--list", "qd/half") == ""
    assert "half" not in git(world.repo, "worktree", "list")
    await world.backend.remove(world.record("never"))


@pytest.mark.parametrize("of_old", [False, True])
async def test_a_clock_that_is_set_kills_nobody(world: World, monkeypatch: pytest.MonkeyPatch, of_old: bool) -> None:
    record = await world.provisioned(world.record("ada"))
    address = await world.backend.start(record, world.launch(record))
    if of_old:
        file = world.backend.folder(record) / ADDRESS_FILE
        write_private(file, {k: v for k, v in msgspec.to_builtins(address).items() if k != "identity"})
    stepped(monkeypatch, 7)
    assert await world.backend.gone(record) is None
    assert (await world.backend.start(record, world.launch(record))).pid == address.pid
    await world.backend.stop(record, grace_seconds=5)
    with anyio.fail_after(15):  # it is found when it is to end
        while proctree.is_alive(address.pid, address.identity):
            await anyio.sleep(0.02)


async def test_work_that_cannot_be_saved_is_not_removed(world: World) -> None:
    record = await world.provisioned(world.record("ada"))
    assert record.workspace is not None
    (Path(record.workspace) / "unsaved.txt").write_text("only here")
    world.repo.rename(world.repo.with_name("moved"))
    with pytest.raises(Unavailable, match=r"the work in .* cannot be saved"):
        await world.backend.remove(record)
    assert (Path(record.workspace) / "unsaved.txt").read_text() == "only here"
    Path(record.workspace).rename(world.state / "kept elsewhere")
    assert "is gone" in (await world.backend.remove(record)).notes[0]


async def test_a_nursery_that_hangs_holds_nobody_up(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarterdeck.fleet.backends.nursery._ANSWER_SECONDS", 0.5)
    async with local_with_nursery(repo, tmp_path) as world:
        assert isinstance(world.backend, LocalBackend)
        assert world.backend._nursery is not None
        nursery = world.backend._nursery._child
        assert nursery is not None
        os.kill(nursery.pid, signal.SIGSTOP)
        records = [await world.provisioned(world.record(name)) for name in ("ada", "bob")]
        try:
            with anyio.fail_after(30):
                async with anyio.create_task_group() as group:
                    for record in records:
                        group.start_soon(world.backend.start, record, world.launch(record))
            assert [await world.backend.gone(record) for record in records] == [None, None]
            with anyio.fail_after(5):
                while nursery.returncode is None:
                    await anyio.sleep(0.02)
        finally:
            with suppress(ProcessLookupError):
                os.kill(nursery.pid, signal.SIGCONT)
            for record in records:
                await world.backend.stop(record, grace_seconds=5)


async def test_a_removal_that_is_done_again_tells_where_the_work_went(world: World) -> None:
    record = await world.provisioned(world.record("ada", deleting_at=time.time()))
    assert record.workspace is not None
    (Path(record.workspace) / "unsaved.txt").write_text("precious")
    first = await world.backend.remove(record)
    assert first.rescue_ref is not None
    again = await world.backend.remove(record)  # the hub was killed before it had written that down
    assert again.rescue_ref == first.rescue_ref
