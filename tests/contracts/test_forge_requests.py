"""How a forge is asked: whose token goes where, how long it is left alone, and what is kept of its answers."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from quarterdeck import config
from quarterdeck.config import ForgeTable
from quarterdeck.errors import InvalidInput, Unavailable
from quarterdeck.metadata.collectors import forge_cache
from quarterdeck.metadata.collectors.forge import Forge, merge_quota, quota_of
from quarterdeck.metadata.collectors.forge_cache import Cached, ForgeCache, Quota
from quarterdeck.metadata.collectors.github import GithubCollector
from quarterdeck.metadata.collectors.gitlab import GitlabCollector
from quarterdeck.metadata.collectors.gitlab_notes import keep_notes
from quarterdeck.serving import run_uvicorn

pytestmark = pytest.mark.anyio
TOKEN = "a-token-of-the-forge-123"
Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("QD_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


class Server:
    """Answers what `answers` says for a path; remembers path and token of each request."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, Answer | Callable[[], Any]] = {}
        self.asked: list[tuple[str, str | None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        token = dict(scope["headers"]).get(b"authorization")
        self.asked.append((scope["path"], token.decode() if token else None))
        answer = self.answers.get(scope["path"], (404, {}, b"{}"))
        status, headers, body = answer if isinstance(answer, tuple) else await answer()
        raw = [(k.encode(), v.encode()) for k, v in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.setblocking(False)
        server.url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        async with anyio.create_task_group() as group:
            await group.start(run_uvicorn, server, bound)
            yield server
            group.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def asking(server: Server, *, token: str | None = TOKEN, interval: float = 0.01) -> AsyncIterator[Forge]:
    forge = Forge(server.url, token, "FORGE_TOKEN", interval, {}, "forge")
    try:
        yield forge
    finally:
        await forge.aclose()


def keep(answer: Any) -> Any:
    return answer


# -------------------------------------------------------------------- whose address, whose token


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("GITHUB_TOKEN", "token-of-the-public-host")
    monkeypatch.setenv("GITLAB_TOKEN", "token-of-the-public-host")
    monkeypatch.setenv("GHE_TOKEN", "token-of-the-own-host")
    (tmp_path / "token").write_text("token-of-the-own-host\n")
    return tmp_path / "token"


@pytest.mark.parametrize(
    ("table", "host", "api", "token"),
    [
        (ForgeTable(), "github.com", "https://api.github.com", "token-of-the-public-host"),
        (ForgeTable(token_env=["GHE_TOKEN"]), "github.com", "https://api.github.com", "token-of-the-own-host"),
        (ForgeTable(api="http://x"), "github.com", "http://x", "token-of-the-public-host"),
        (ForgeTable(hosts=["GHE.corp"]), "ghe.corp", "https://ghe.corp/api/v3", None),
        (ForgeTable(hosts=["ghe.corp"]), "github.com", "https://api.github.com", "token-of-the-public-host"),
        (
            ForgeTable(hosts=["ghe.corp"], api="http://x", token_env=["GHE_TOKEN"]),
            "ghe.corp",
            "http://x",
            "token-of-the-own-host",
        ),
        (
            ForgeTable(hosts=["ghe.corp"], api="http://x", token_env=["GHE_TOKEN"]),
            "github.com",
            "https://api.github.com",
            "token-of-the-public-host",
        ),
    ],
)
async def test_each_host_has_its_own_address_and_token(
    tokens: Path, table: ForgeTable, host: str, api: str, token: str | None
) -> None:
    forge = await GithubCollector(table)._forge(host)
    assert (forge.api, forge.token) == (api, token)


async def test_a_token_file_is_that_of_the_own_hosts_alone(tokens: Path) -> None:
    collector = GitlabCollector(ForgeTable(hosts=["git.corp"], token_file=str(tokens)))
    assert (await collector._forge("git.corp")).token == "token-of-the-own-host"
    assert (await collector._forge("git.corp")).api == "https://git.corp/api/v4"
    public = await collector._forge("gitlab.com")
    assert (public.api, public.token) == ("https://gitlab.com/api/v4", "token-of-the-public-host")


async def test_a_renewed_token_counts_at_once(tokens: Path) -> None:
    collector = GithubCollector(ForgeTable(token_file=str(tokens)))
    first = await collector._forge("github.com")
    assert await collector._forge("github.com") is first
    tokens.write_text("the-next-token-of-the-host\n")
    assert (await collector._forge("github.com")).token == "the-next-token-of-the-host"
    tokens.unlink()
    with pytest.raises(InvalidInput, match="cannot be read"):
        await collector._forge("github.com")


def test_a_token_file_is_looked_for_beside_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "quarterdeck.toml").write_text(
        '[metadata.github]\ntoken_file = "secrets/github"\n[metadata.gitlab]\ntoken_file = "/abs/olute"\n'
    )
    metadata = config.load(tmp_path).metadata
    assert metadata.github.token_file == str(tmp_path / "secrets" / "github")
    assert metadata.gitlab.token_file == "/abs/olute"


def test_the_variables_that_a_hub_hands_on_to_its_agents() -> None:
    def names(**tables: ForgeTable) -> set[str]:
        return set(config.MetadataTable(**tables).token_variables())

    assert names() == {"GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN"}
    assert names(github=ForgeTable(token_env=["MINE"])) == {"MINE", "GITLAB_TOKEN"}
    assert names(github=ForgeTable(token_env=["MINE"], hosts=["h"])) == {
        "MINE",
        "GITHUB_TOKEN",
        "GH_TOKEN",
        "GITLAB_TOKEN",
    }


async def test_neither_a_link_nor_a_redirect_carries_the_token_elsewhere() -> None:
    async with serving() as server, serving() as elsewhere, asking(server) as forge:
        elsewhere.answers["/more"] = (200, {}, b"[2]")
        server.answers["/list"] = (200, {"link": f'<{elsewhere.url}/more>; rel="next"'}, b"[1]")
        assert (await forge.pages("/list", keep, 1.0)).data == [1]
        assert elsewhere.asked == []
        server.answers["/moved"] = (302, {"location": f"{elsewhere.url}/more"}, b"")
        await forge.get("/moved", keep, 1.0)
        assert elsewhere.asked == [("/more", None)]
        assert server.asked[-1] == ("/moved", f"Bearer {TOKEN}")


async def test_the_token_is_in_no_log(state: Path, caplog: pytest.LogCaptureFixture, tokens: Path) -> None:
    async with serving() as server:
        server.answers["/x"] = (401, {}, b"token-of-the-own-host")
        collector = GithubCollector(ForgeTable(api=server.url, token_file=str(tokens)))
        with caplog.at_level(logging.DEBUG):
            forge = await collector._forge("github.com")
            with pytest.raises(Unavailable, match=r"check .*token"):
                await forge.get("/x", keep, 1.0)
        await collector.aclose()
    assert server.asked == [("/x", "Bearer token-of-the-own-host")]
    assert caplog.records
    assert "token-of-the-own-host" not in caplog.text
    assert all(b"token-of-the-own-host" not in path.read_bytes() for path in state.rglob("*") if path.is_file())


# -------------------------------------------------------------------- how long it is left alone


NOW = 1_000_000.0
LEFT = {"x-ratelimit-limit": "100", "x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) + 50)}


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {}, 60),
        (429, {"retry-after": "7"}, 7),
        (503, {"retry-after": formatdate(NOW + 30, usegmt=True)}, 30),
        (403, {"retry-after": "99999999999999999999"}, 3600),
        (403, LEFT, 50),
        (403, {k.removeprefix("x-"): v for k, v in LEFT.items()}, 50),
        (503, LEFT, None),
        (403, {**LEFT, "x-ratelimit-remaining": "5"}, None),
        (403, {"retry-after": "soon"}, None),
        (200, LEFT, None),
    ],
)
def test_how_long_an_answer_asks_us_to_wait(status: int, headers: dict[str, str], seconds: float | None) -> None:
    told = quota_of(status, headers, NOW)
    assert told.blocked_until == (0 if seconds is None else pytest.approx(NOW + seconds, abs=1))


def test_answers_that_overtake_each_other() -> None:
    known = Quota(limit=100, remaining=50, reset=9.0)
    merge_quota(known, Quota(limit=100, remaining=40, reset=9.0, blocked_until=77.0))
    merge_quota(known, Quota(limit=100, remaining=45, reset=9.0))
    merge_quota(known, Quota())
    assert known == Quota(limit=100, remaining=40, reset=9.0, blocked_until=77.0)
    merge_quota(known, Quota(limit=100, remaining=99, reset=10.0))
    assert known == Quota(limit=100, remaining=99, reset=10.0, blocked_until=77.0)


async def test_a_request_to_wait_outlives_an_answer_that_was_on_its_way() -> None:
    """Ten answers come while one says to wait: all of them know the quota as it was before."""
    gate = anyio.Event()
    quota = {
        "x-ratelimit-limit": "1000",
        "x-ratelimit-remaining": "900",
        "x-ratelimit-reset": str(int(time.time() + 99)),
    }

    async def slow() -> Answer:
        await gate.wait()
        return 200, quota, b"1"

    async with serving() as server, asking(server) as forge:
        server.answers["/slow"] = slow
        server.answers["/wait"] = (403, {**quota, "retry-after": "30"}, b"{}")
        async with anyio.create_task_group() as group:
            group.start_soon(forge.get, "/slow", keep, 1.0)
            while not server.asked:
                await anyio.sleep(0.01)
            with pytest.raises(Unavailable):
                await forge.get("/wait", keep, 1.0)
            gate.set()
        asked = len(server.asked)
        with pytest.raises(Unavailable, match="no more answers"):
            await forge.get("/other", keep, 1.0)
        assert len(server.asked) == asked


async def test_a_secondary_limit_without_a_header_has_all_wait_a_minute() -> None:
    body = b'{"message": "You have exceeded a secondary rate limit. Please wait a few minutes."}'
    async with serving() as server, asking(server) as forge:
        server.answers["/x"] = (403, LEFT | {"x-ratelimit-remaining": "99"}, body)
        with pytest.raises(Unavailable):
            await forge.get("/x", keep, 1.0)
        with pytest.raises(Unavailable, match=r"no more answers for (5\d|60) s"):
            await forge.get("/y", keep, 1.0)
        assert len(server.asked) == 1
    async with serving() as server, asking(server) as forge:
        server.answers["/x"] = (403, LEFT | {"x-ratelimit-remaining": "99"}, b'{"message": "Forbidden"}')
        server.answers["/y"] = (200, {}, b"1")
        with pytest.raises(Unavailable):
            await forge.get("/x", keep, 1.0)
        assert (await forge.get("/y", keep, 1.0)).data == 1


async def test_a_clock_that_is_set_back_freezes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, ahead = time.time, 7200.0
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    async with serving() as server, asking(server) as forge:
        server.answers["/x"] = (200, {}, b"1")
        server.answers["/bad"] = (500, {}, b"")
        server.answers["/wait"] = (429, {"retry-after": "30"}, b"")
        assert (await forge.get("/x", keep, 60.0)).data == 1
        for path in ("/bad", "/wait"):
            with pytest.raises(Unavailable):
                await forge.get(path, keep, 60.0)
        ahead = 0.0
        server.answers |= {path: (200, {}, b"2") for path in ("/x", "/bad", "/wait")}
        for path in ("/x", "/bad", "/wait"):
            assert (await forge.get(path, keep, 60.0)).data == 2, path
        server.answers["/again"] = (429, {"retry-after": "30"}, b"")
        with pytest.raises(Unavailable):
            await forge.get("/again", keep, 60.0)
        with pytest.raises(Unavailable, match=r"no more answers for (2\d|30) s"):
            await forge.get("/other", keep, 60.0)


async def test_pauses_double_and_are_never_in_step() -> None:
    async with serving() as server, asking(server, interval=10) as forge:
        pauses: list[tuple[float, float]] = []  # at most and at least, for what writing down took
        for address in ("/a", "/b", "/c"):
            server.answers[address] = (500, {}, b"")
            pauses.clear()
            for _ in range(9):
                cached = await forge._cache.read(server.url + address)
                cached.retry_at = 0.0
                await forge._cache.write(server.url + address, cached)
                before = time.time()
                with contextlib.suppress(Unavailable):
                    await forge.get(address, keep, 0.0)
                retry_at = (await forge._cache.read(server.url + address)).retry_at
                pauses.append((retry_at - before, retry_at - time.time()))
            for n, (most, least) in enumerate(pauses):
                whole = min(10 * 2.0**n, 900)
                assert 0.79 * whole < most
                assert least < 1.21 * whole
        assert len({round(most / 900, 6) for most, _ in pauses[-3:]}) == 3, "agents would ask in step"


# -------------------------------------------------------------------- what is kept


async def test_what_nobody_asks_for_any_more_is_forgotten(state: Path) -> None:
    cache = ForgeCache(state / "forge", "h", TOKEN)
    await cache.write("https://h/old", Cached(data=1))
    await ForgeCache(state / "forge", "gone", TOKEN).write("https://gone/x", Cached(data=1))
    old = time.time() - forge_cache.KEEP_SECONDS - 60
    for path in (state / "forge").rglob("*.*"):
        os.utime(path, (old, old))
    later = ForgeCache(state / "forge", "h", TOKEN)
    await later.write("https://h/new", Cached(data=2))
    assert (await later.read("https://h/new")).data == 2
    assert (await later.read("https://h/old")).data is None
    assert len(list((state / "forge").iterdir())) == 1, "the folder of a token that is gone stays"


async def test_a_cache_that_cannot_be_written_fails_nothing(state: Path) -> None:
    (state / "forge").parent.mkdir()
    (state / "forge").write_text("a file where a folder should be")
    async with serving() as server, asking(server, interval=30) as forge:
        server.answers["/x"] = (200, LEFT | {"x-ratelimit-remaining": "99"}, b'{"n": 1}')
        assert (await forge.get("/x", keep, 30.0)).data == {"n": 1}
        assert (await forge.get("/x", keep, 30.0)).data == {"n": 1}
        assert len(server.asked) == 1, "a full disk has the forge asked again and again"
        server.answers["/y"] = (403, {"retry-after": "30"}, b"")
        with pytest.raises(Unavailable):
            await forge.get("/y", keep, 30.0)
        with pytest.raises(Unavailable, match="no more answers"):
            await forge.get("/z", keep, 30.0)
        assert len(server.asked) == 2


@pytest.mark.parametrize("moment", ["yesterday", 7, None])
async def test_a_moment_that_is_none_is_an_answer_that_should_be_another(moment: object) -> None:
    """It is waited for like any other failure, not asked for again in every round."""
    note = {"id": 1, "author": {"username": "bob"}, "created_at": moment, "body": "x"}
    async with serving() as server, asking(server, interval=30) as forge:
        server.answers["/notes"] = (200, {}, json.dumps([note]).encode())
        for _ in range(2):
            with pytest.raises(Unavailable, match="something else than it should"):
                await forge.get("/notes", keep_notes, 24)
        assert len(server.asked) == 1
