"""The table of routes: what it takes, what it refuses, and what its document says of both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from quarterdeck import web
from quarterdeck.openapi import openapi_of

KEY = web.Param("Idempotency-Key", str, None, "1 to 4 letters", pattern="[a-z]{1,4}")
TABLE = (
    web.Param("page", int, 1, "page", minimum=1),
    web.Param("wait", float, 0.0, "seconds", minimum=0, maximum=5),
    web.Param("since", float, 0.0, "seconds"),
)


async def _tell(call: web.Call) -> Any:
    return {"query": dict(call.query), "headers": dict(call.headers)}


ROUTES = [
    web.Route("GET", "/things", _tell, "Things", answer=dict, query=TABLE, headers=(KEY,)),
    web.Route("PUT", "/things", _tell, "A thing", answer=dict),
]


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    app = Starlette(routes=list(web.build(ROUTES)), exception_handlers=dict(web.NO_ROUTE))
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


@pytest.mark.anyio
async def test_a_header_of_the_table_is_checked_and_given(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/things")).json()["headers"] == {"Idempotency-Key": None}
    given = await http.get("/things", headers={"idempotency-key": "abc"})
    assert given.json()["headers"] == {"Idempotency-Key": "abc"}
    for wrong in (b"", b"abcde", b"A", "ü".encode()):
        refused = await http.get("/things", headers={b"idempotency-key": wrong})
        assert refused.status_code == 400, wrong
        assert refused.json()["error"]["code"] == "INVALID_INPUT"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "query", ["wait=nan", "since=nan", "since=inf", "since=-inf", "page=99999999999999999999", f"page={2**53}"]
)
async def test_a_number_that_nobody_can_count_with_is_refused(http: httpx2.AsyncClient, query: str) -> None:
    refused = await http.get(f"/things?{query}")
    assert refused.status_code == 400
    assert query.partition("=")[0] in refused.json()["error"]["message"]


@pytest.mark.anyio
async def test_what_no_route_takes_is_told_as_an_error_of_ours(http: httpx2.AsyncClient) -> None:
    missing = await http.get("/nothing")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "NOT_FOUND")
    refused = await http.post("/things")
    assert (refused.status_code, refused.json()["error"]["code"]) == (405, "INVALID_INPUT")
    # Both routes of the path, not only the one that was found first.
    assert refused.headers["allow"] == "GET, HEAD, PUT"


def test_the_document_tells_of_headers_and_bounds() -> None:
    document = openapi_of("t", "1", "", ROUTES)
    parameters = {p["name"]: p for p in document["paths"]["/things"]["get"]["parameters"]}
    assert parameters["Idempotency-Key"]["in"] == "header"
    assert parameters["Idempotency-Key"]["schema"] == {"type": "string", "pattern": "^(?:[a-z]{1,4})$"}
    assert parameters["page"]["in"] == "query"
    assert parameters["page"]["schema"]["maximum"] == web.MAX_INT
