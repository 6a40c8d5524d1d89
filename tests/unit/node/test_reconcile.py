"""Plans, hashes, drift, restarts and alerts: pure decisions."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.errors import NotFound
from quarterdeck.node import reconcile
from quarterdeck.node.alerts import INACTIVE, Condition, step
from quarterdeck.node.configdrift import config_drift
from quarterdeck.node.context import env_lines
from quarterdeck.node.model import (
    ComponentRecord,
    ComponentSpec,
    Healthcheck,
    Observed,
    Port,
    Problem,
    ServiceDef,
    ServiceRecord,
    Volume,
)
from quarterdeck.node.options import MonitorOptions
from quarterdeck.node.restarts import Again, GiveUp, backoff, decide
from quarterdeck.node.results import HistoryEntry
from quarterdeck.node.rollback import rollback_target
from quarterdeck.node.validate import (
    format_memory,
    format_port,
    format_volume,
    parse_memory,
    parse_port,
    parse_volume,
    problems,
)


def record(spec: ComponentSpec, state: str = "running", **seen: object) -> ComponentRecord:
    digest = reconcile.spec_hash(spec)
    observed = Observed(state=state, at=1, container_id="i", spec_hash=digest, image_digest="sha256:1", **seen)  # type: ignore[arg-type]
    return ComponentRecord("s", spec, f"s-{spec.name}", "running", 1, digest, "v1", "sha256:1", observed)


A, B = ComponentSpec("a", "img:v1"), ComponentSpec("b", "img:v1", depends_on=("a",))
SERVICE = ServiceDef("s", (A, B))
CURRENT = ServiceRecord("s", 3, (record(A), record(B)))


def planned(
    service: ServiceDef, current: ServiceRecord | None, digests: dict[str, str] | None = None
) -> list[tuple[str, str]]:
    hashes = {each.name: reconcile.spec_hash(each) for each in service.components}
    plan = reconcile.plan(service, current, hashes=hashes, digests=digests or {})
    return [(each.component, each.action) for each in plan.actions]


def test_plans() -> None:
    assert planned(SERVICE, None) == [("a", "create"), ("b", "create")]
    assert planned(SERVICE, CURRENT) == [("a", "keep"), ("b", "keep")]
    assert planned(ServiceDef("s", (B, A)), CURRENT) == [("a", "keep"), ("b", "keep")]
    changed = ServiceDef("s", (replace(A, env={"X": "1"}), ComponentSpec("c", "img")))
    assert planned(changed, CURRENT) == [("a", "replace"), ("c", "create"), ("b", "remove")]
    assert planned(SERVICE, CURRENT, {"a": "sha256:2", "b": "sha256:1"}) == [("a", "replace"), ("b", "keep")]
    down = replace(CURRENT, components=(record(A, "exited", exit_code=1), record(B, "missing")))
    assert planned(SERVICE, down) == [("a", "start"), ("b", "create")]
    unseen = replace(CURRENT, components=(record(A, "exited"), record(B)))
    assert planned(SERVICE, unseen) == [("a", "replace"), ("b", "keep")]
    assert planned(replace(SERVICE, active=False), CURRENT) == [("a", "stop"), ("b", "stop")]
    assert planned(replace(SERVICE, active=False), None) == [("a", "keep"), ("b", "keep")]
    policy = ServiceDef("s", (replace(A, restart="no"), B))
    hashes = {each.name: reconcile.spec_hash(each) for each in policy.components}
    plan = reconcile.plan(policy, CURRENT, hashes=hashes, digests={})
    assert (plan.changes_nothing, plan.next_generation, plan.actions[0].changes[0].field) == (True, 4, "restart")


def test_the_hash_is_of_what_the_container_is() -> None:
    base = replace(A, env={"A": "1", "B": "2"}, ports=(Port(1, 1), Port(2, 2)))
    same = replace(base, env={"B": "2", "A": "1"}, ports=(Port(2, 2), Port(1, 1)), restart="no", depends_on=("x",))
    assert reconcile.spec_hash(base) == reconcile.spec_hash(same)
    others = [replace(base, env={"A": "2"}), replace(base, image="i"), replace(base, cmd=("x",))]
    others += [replace(base, stop_seconds=1), replace(base, healthcheck=Healthcheck(("x",)))]
    others += [replace(base, labels={"x": "y"})]
    assert len({reconcile.spec_hash(each) for each in (base, *others)}) == len(others) + 1
    hidden = [reconcile.spec_hash(base, key=k, hidden={"P": p}) for k, p in (("1", "a"), ("2", "a"), ("1", "b"))]
    assert len({reconcile.spec_hash(base), *hidden}) == 4


def test_drift_of_what_was_seen() -> None:
    assert reconcile.drift(record(A)) == ()
    assert [d.kind for d in reconcile.drift(record(A, "exited"))] == ["state"]
    assert reconcile.drift(replace(record(A, "exited"), desired="stopped")) == ()
    assert reconcile.drift(record(A, "unknown")) == ()
    assert reconcile.drift(replace(record(A, "exited"), desired="ignore")) == ()
    other = replace(record(A), image_digest="sha256:2", spec_hash="z")
    assert [d.kind for d in reconcile.drift(other)] == ["image", "spec"]


def test_of_what_should_be_stopped_only_the_state_counts() -> None:
    stopped = replace(record(A, "exited"), desired="stopped", spec_hash="another", image_digest="sha256:2")
    assert reconcile.drift(stopped) == ()
    assert not reconcile.as_defined(stopped)
    assert reconcile.as_defined(replace(record(A, "exited"), desired="stopped"))
    assert [d.kind for d in reconcile.drift(replace(record(A), desired="stopped"))] == ["state"]


@pytest.mark.parametrize(("restart", "code", "well"), [
    ("no", 0, True), ("on-failure", 0, True), ("always", 0, False), ("no", 1, False), ("on-failure", None, False),
])  # fmt: skip
def test_a_job_ends_well_only_with_zero_and_without_always(restart: str, code: int | None, well: bool) -> None:
    ended = record(replace(A, restart=restart), "exited", exit_code=code)  # type: ignore[arg-type]
    assert (reconcile.drift(ended) == ()) is well


def test_config_drift_hides_and_forgives() -> None:
    wanted = replace(A, env={"X": "1", "SECRET": "a"}, volumes=(Volume("/a", "/b", ("ro", "Z")),))
    real = replace(
        wanted, image="docker.io/library/img:v1", env={"X": "1", "SECRET": "b"}, volumes=(Volume("/a", "/b", ("ro",)),)
    )
    assert config_drift(wanted, real, hidden=["SECRET"]) == ()
    found = config_drift(wanted, replace(real, volumes=(Volume("/a", "/b"),), env={"X": "2", "Y": "3"}))
    assert [(d.field, d.desired, d.actual) for d in found] == [
        ("volumes", "/a:/b:ro", "/a:/b"), ("env.SECRET", "a", ""), ("env.X", "1", "2"), ("env.Y", "", "3"),
    ]  # fmt: skip


def test_an_adopted_container_keeps_its_hash_another_is_foreign() -> None:
    before = Observed(state="running", container_id="one", spec_hash="adopted", generation=2)
    assert reconcile.recognised(Observed(state="exited", container_id="one"), before).spec_hash == "adopted"
    assert reconcile.recognised(Observed(state="running", container_id="two"), before).spec_hash == reconcile.FOREIGN
    assert reconcile.recognised(Observed(state="missing"), before).spec_hash == ""
    assert reconcile.recognised(Observed(container_id="two", spec_hash="label"), before).spec_hash == "label"


def test_levels_follow_depends_on_and_never_hang() -> None:
    c = ComponentSpec("c", "i", depends_on=("a", "b"))
    assert [[e.name for e in level] for level in reconcile.levels([c, B, A])] == [["a"], ["b"], ["c"]]
    x, y = ComponentSpec("x", "i", depends_on=("y",)), ComponentSpec("y", "i", depends_on=("x",))
    assert [[e.name for e in level] for level in reconcile.levels([x, y])] == [["x", "y"]]
    assert [[e.name for e in level] for level in reconcile.levels([B])] == [["b"]]


OPTIONS = MonitorOptions(backoff_seconds=1, backoff_max_seconds=60, restart_limit=5, settled_seconds=10)


def test_restarts() -> None:
    def ended(code: int, ran: float, restart: str = "always", desired: str = "running") -> ComponentRecord:
        spec = replace(A, restart=restart)
        return replace(
            record(spec, "exited", exit_code=code, started_at=100.0, finished_at=100.0 + ran), desired=desired
        )  # type: ignore[arg-type]

    assert decide(ended(1, 1), 0, OPTIONS) == Again(1, 1)
    assert decide(ended(1, 1), 3, OPTIONS) == Again(8, 4)
    assert decide(ended(1, 1), 5, OPTIONS) == GiveUp(5)
    assert decide(ended(1, 11), 5, OPTIONS) == Again(1, 1)
    assert decide(ended(0, 1, "on-failure"), 0, OPTIONS) is None
    assert decide(ended(1, 1, "on-failure"), 0, OPTIONS) == Again(1, 1)
    assert decide(ended(1, 1, "no"), 0, OPTIONS) is None
    assert decide(ended(1, 1, desired="stopped"), 0, OPTIONS) is None
    assert decide(record(A), 0, OPTIONS) is None
    assert decide(record(A, "unknown"), 0, OPTIONS) is None
    assert backoff(10_000, OPTIONS) == 60


@given(st.lists(st.tuples(st.floats(0.1, 50), st.booleans()), max_size=60))
def test_alerts_keep_the_cooldown_whatever_happens(looks: list[tuple[float, bool]]) -> None:
    now, known, raised, over = 1000.0, None, list[float](), 0
    for wait, holds in looks:
        now += wait
        known, notice = step(known, holds=holds, now=now, hold_seconds=5, cooldown_seconds=100)
        raised += [now] if notice == "raise" else []
        over += notice == "over"
        if notice == "over":
            assert not holds
    assert all(b - a >= 100 for a, b in pairwise(raised))
    assert over <= len(raised)


def test_an_alert_waits_and_its_end_is_told_once() -> None:
    known, notice = step(None, holds=True, now=10, hold_seconds=5, cooldown_seconds=100)
    assert notice is None
    known, notice = step(known, holds=True, now=16, hold_seconds=5, cooldown_seconds=100)
    assert (notice, known) == ("raise", Condition(10, 16))
    known, notice = step(known, holds=False, now=20, hold_seconds=5, cooldown_seconds=100)
    assert (notice, known) == ("over", Condition(INACTIVE, 16))
    known, notice = step(known, holds=False, now=21, hold_seconds=5, cooldown_seconds=100)
    assert notice is None
    known, notice = step(known, holds=False, now=200, hold_seconds=5, cooldown_seconds=100)
    assert (known, notice) == (None, None)


def test_rollback_goes_to_the_last_that_went_well_and_was_another() -> None:
    def entry(generation: int, definition: ServiceDef, *, ok: bool = True, current: bool = False) -> HistoryEntry:
        return HistoryEntry("s", generation, 0, "", ok, current, definition)

    other = ServiceDef("s", (A,))
    entries = [entry(4, SERVICE, ok=False, current=True), entry(3, SERVICE), entry(2, other, ok=False), entry(1, other)]
    assert rollback_target("s", entries, 4, None).definition == other
    assert rollback_target("s", entries, 4, 3).definition == SERVICE
    with pytest.raises(NotFound, match="no generation 9"):
        rollback_target("s", entries, 4, 9)
    with pytest.raises(NotFound, match="went well"):
        rollback_target("s", [entry(1, SERVICE, current=True)], 1, None)


def test_env_files_tell_the_line_and_never_its_content() -> None:
    assert env_lines("# c\n\nA=1\nexport B= x=y \n", origin="f") == {"A": "1", "B": " x=y "}
    with pytest.raises(Exception, match="line 2") as caught:
        env_lines("A=1\nsecret-without-name\n", origin="f")
    assert "secret-without-name" not in str(caught.value)


@pytest.mark.parametrize(
    ("service", "key", "word"),
    [
        (ServiceDef("Bad Name", (A,)), "name", "lower-case"),
        (ServiceDef("s", ()), "components", "at least one"),
        (ServiceDef("s", (A, A)), "components[0].name", "unique"),
        (ServiceDef("s", (replace(A, image="bad image"),)), "components[0].image", "registry/name:tag"),
        (ServiceDef("s", (replace(A, ports=(Port(0, 80),)),)), "components[0].ports[0]", "65535"),
        (
            ServiceDef("s", (replace(A, ports=(Port(80, 80),)), replace(B, ports=(Port(80, 81),)))),
            "components[1].ports[0]",
            "already",
        ),
        (ServiceDef("s", (replace(A, volumes=(Volume("rel/x", "/x"),)),)), "components[0].volumes[0]", "absolute"),
        (ServiceDef("s", (replace(A, depends_on=("b",)), B)), "components", "circle"),
        (
            ServiceDef("s", (replace(A, network="host", ports=(Port(1, 1),)),)),
            "components[0].ports",
            "publishes nothing",
        ),
        (ServiceDef("s", (replace(A, env_files=("../x",)),)), "components[0].env_files[0]", "leads out"),
        (ServiceDef("s", (replace(A, env={"1X": ""}),)), "components[0].env", "variable"),
    ],
)
def test_problems_name_the_key_and_what_to_write(service: ServiceDef, key: str, word: str) -> None:
    found = problems(service)
    assert any(each.key == key and word in each.message for each in found), found
    assert problems(SERVICE) == ()
    assert all(isinstance(each, Problem) for each in found)


@given(
    st.builds(Port, st.integers(1, 65535), st.integers(1, 65535), st.sampled_from(["tcp", "udp"]),
              st.sampled_from(["", "127.0.0.1", "::1", "10.0.0.1"]))
)  # fmt: skip
def test_ports_come_back(port: Port) -> None:
    assert parse_port(format_port(port)) == port


@given(st.integers(1, 2**50))
def test_memory_comes_back(size: int) -> None:
    assert parse_memory(format_memory(size)) == size


@pytest.mark.parametrize("text", ["/a:/b", "v:/b:ro", "/a:/b:ro,Z"])
def test_volumes_come_back(text: str) -> None:
    assert format_volume(parse_volume(text)) == text


@pytest.mark.parametrize("text", ["80", "a:b", "0:80", "70000:80", "80:80/sctp", "1.2.3.4.:x:y", ":80"])
def test_bad_ports(text: str) -> None:
    with pytest.raises(ValueError, match="port"):
        parse_port(text)


@pytest.mark.parametrize("text", ["/a", "/a:b", "/a:/b:zz", "../a:/b", "a/b:/c", ":/b"])
def test_bad_volumes(text: str) -> None:
    with pytest.raises(ValueError):
        parse_volume(text)
