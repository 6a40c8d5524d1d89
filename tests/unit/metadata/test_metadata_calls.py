"""The calls of the lean callable, without a server: what names and values it refuses, what it logs, what it answers."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx2
import pytest

from quarterdeck.errors import Unprocessable
from quarterdeck.metadata.model import parse_body
from quarterdeck.metadata.service import MetadataService

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(tmp_path: Path, repo: Path) -> AsyncIterator[httpx2.AsyncClient]:
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        transport = httpx2.ASGITransport(app=service.asgi())
        async with httpx2.AsyncClient(transport=transport, base_url="http://x") as found:
            yield found


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("PUT", "/metadata/k", rb'{"value":1,"\ud800":2}'),
        ("POST", "/metadata", rb'{"data":{"a":1},"\ud800":2}'),
        ("POST", "/metadata", rb'{"data":{"\ud800":"\u0000"}}'),
        ("POST", "/metadata", rb'{"data":{"\ud800":"' + b"x" * 5000 + rb'"}}'),
        ("POST", "/metadata", rb'{"data":{"\ud800":1,"\ud800":2}}'),
    ],
)
async def test_a_name_with_half_a_surrogate_is_refused(
    client: httpx2.AsyncClient, method: str, path: str, content: bytes
) -> None:
    response = await client.request(method, path, content=content)
    assert response.status_code == 422, response.text
    assert (await client.get("/metadata?source=stored")).json()["data"] == {}


@pytest.mark.parametrize("body", [rb'{"data":{"%s":"\u0000"}}', rb'{"data":{"a":1},"%s":1}'])
async def test_a_name_of_a_megabyte_is_not_echoed(
    client: httpx2.AsyncClient, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        response = await client.post("/metadata", content=body % (b"k" * 1_000_000))
    assert response.status_code in (413, 422)
    assert len(response.content) < 2000
    assert max(len(record.getMessage()) for record in caplog.records) < 2000


async def test_what_a_caller_sends_writes_no_lines_into_the_log(
    client: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="quarterdeck.metadata.api"):
        assert (await client.get("/metadata?x%0AFORGED=1")).status_code == 400
        assert (await client.put("/metadata/k", content=rb'{"value":1,"\nFORGED":2}')).status_code == 422
    told = [record.getMessage() for record in caplog.records if "FORGED" in record.getMessage()]
    assert len(told) == 2
    assert not any("\n" in line for line in told)


async def test_a_write_is_answered_with_what_it_stored_whatever_shares_its_flush(client: httpx2.AsyncClient) -> None:
    answers: dict[str, httpx2.Response] = {}

    async def put(name: str, value: int) -> None:
        answers[name] = await client.put("/metadata/k", json={"value": value})

    async def delete() -> None:
        answers["gone"] = await client.delete("/metadata/k")

    async with anyio.create_task_group() as group:
        group.start_soon(put, "first", 1)
        group.start_soon(put, "second", 2)
        group.start_soon(delete)
    for name, value, status in (("first", 1, 201), ("second", 2, 200)):
        assert answers[name].status_code == status
        assert answers[name].json()["value"] == value
        assert answers[name].headers["etag"] == f'"{answers[name].json()["revision"]}"'
    assert answers["gone"].status_code == 204
    assert (await client.get("/metadata/k")).status_code == 404


async def test_a_collected_fact_has_a_tag_that_changes_with_it(client: httpx2.AsyncClient, repo: Path) -> None:
    assert (await client.get("/metadata?fresh=true&source=git")).status_code == 200
    first = await client.get("/metadata/git_branch")
    tag = first.headers["etag"]
    assert tag == f'"{first.json()["revision"]}"'
    unchanged = await client.get("/metadata/git_branch", headers={"If-None-Match": tag})
    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", tag)
    (repo / ".git" / "HEAD").write_text("ref: refs/heads/other\n")
    changed = await client.get("/metadata/git_branch", headers={"If-None-Match": tag})
    assert (changed.status_code, changed.json()["value"]) == (200, "other")
    assert changed.headers["etag"] != tag


def test_a_body_full_of_names_with_some_of_them_twice_is_refused_at_once() -> None:
    names = [f'"a{n}":1' for n in range(150_000)]
    body = "{" + ",".join(names + names[:6]) + "}"
    began = time.process_time()
    with pytest.raises(Unprocessable, match=r"the key 'a0', 'a1', 'a2', 'a3', 'a4' and others more than once"):
        parse_body(body.encode())
    assert time.process_time() - began < 5
