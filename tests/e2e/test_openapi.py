"""The OpenAPI documents of sidecar and hub: right in themselves, and kept by the servers (schemathesis)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import jsonschema
import pytest
import requests
import schemathesis
from anyio.to_thread import run_sync
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from support.hub import LiveHub
from support.sidecar import Sidecar, sidecar

pytestmark = pytest.mark.anyio
CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
# The document says "a text", as 3.1 can; schemathesis holds each event of it against that.
OF_STREAMS = [check for check in CHECKS if check is not response_schema_conformance]
SIDECAR_CALLS = {
    ("get", "/health"), ("get", "/v1/agent"), ("post", "/v1/tasks"), ("get", "/v1/tasks"), ("get", "/v1/tasks/{id}"),
    ("post", "/v1/tasks/{id}/cancel"), ("post", "/v1/tasks/{id}/release"), ("get", "/v1/log"), ("get", "/v1/events"),
    ("post", "/v1/tasks/{id}/withdraw"), ("post", "/v1/notes"),
    ("post", "/v1/attention/{id}"), ("post", "/v1/report"), ("post", "/v1/stop"), ("get", "/metadata"),
}  # fmt: skip


@pytest.fixture(scope="module")
async def side(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sidecar]:
    folder = tmp_path_factory.mktemp("side")
    async with sidecar(folder / "agent", folder / "work") as running:
        await running.until(status="idle")
        yield running


def calls(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(method, path) for path, operations in document["paths"].items() for method in operations}


def streams(document: dict[str, Any]) -> set[str]:
    """The paths whose answer does not end."""
    return {path for path, operations in document["paths"].items() if "event-stream" in str(operations)}


def try_one(operation: Any, waits: list[str], token: str, examples: int) -> int:
    """Call one operation with made-up input; how many calls."""
    count = 0

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        nonlocal count
        count += 1
        case.query = {**(case.query or {}), **dict.fromkeys(waits, 0)}
        case.call_and_validate(checks=CHECKS, headers={"Authorization": f"Bearer {token}"}, timeout=20)

    check()
    return count


def try_out(document: dict[str, Any], url: str, token: str, leave_out: set[str], examples: int) -> int:
    """Call every operation with made-up input, right and wrong, and check each answer; how many calls."""
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    count = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path not in leave_out:
            named = document["paths"][operation.path][operation.method.lower()]["parameters"]
            count += try_one(operation, [p["name"] for p in named if p["name"] in ("wait", "timeout")], token, examples)
    return count


def try_stream(operation: Any, url: str, token: str, mode: GenerationMode) -> set[int]:
    """Call what answers with a stream with made-up input, right or wrong, and check each answer up to its first
    piece; the statuses.
    """
    found: set[int] = set()

    @settings(max_examples=20, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck), phases=[Phase.generate])  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        call = case.as_transport_kwargs(base_url=url, headers={"Authorization": f"Bearer {token}"})
        with requests.request(**call, stream=True, timeout=20) as response:
            if response.status_code == 200:
                response._content = next(response.iter_content(None))
            case.validate_response(response, checks=OF_STREAMS)
            found.add(response.status_code)

    check()
    return found


@pytest.mark.slow  # where nothing happens, the first piece is a heartbeat
@pytest.mark.parametrize("path", ["/v1/events", "/metadata/watch"])
async def test_the_sidecars_streams_keep_to_its_document(side: Sidecar, path: str) -> None:
    document = await side.get("/openapi.json")
    assert path in streams(document)
    schema = schemathesis.openapi.from_dict(document)
    assert side.address.url is not None
    schema.config.update(base_url=side.address.url)
    call = partial(try_stream, schema[path]["GET"], side.address.url, side.token)
    assert await run_sync(call, GenerationMode.POSITIVE) == {200}
    assert 400 in await run_sync(call, GenerationMode.NEGATIVE)


async def test_the_sidecars_document_is_right(side: Sidecar) -> None:
    document = await side.get("/openapi.json")
    assert document["openapi"] == "3.1.0"
    assert calls(document) >= SIDECAR_CALLS
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    # Every path of it is served, and what is not in it is not.
    for method, path in calls(document):
        if path in {"/v1/stop", *streams(document)}:
            continue
        answer = await side.http.request(method.upper(), path.replace("{id}", "none").replace("{key}", "none"))
        assert answer.status_code != 405, (method, path)
        assert answer.status_code != 404 or "{" in path, (method, path)
    assert (await side.http.get("/v1/nothing")).status_code == 404
    assert (await side.http.delete("/v1/agent")).status_code == 405


async def test_the_sidecar_keeps_to_its_document(side: Sidecar) -> None:
    document = await side.get("/openapi.json")
    assert side.address.url is not None
    leave_out = {"/v1/stop", *streams(document)}
    count = await run_sync(partial(try_out, document, side.address.url, side.token, leave_out, 8))
    assert count >= 50
    assert (await side.get("/health"))["agent"] == "tester"


async def test_the_hub_keeps_to_its_document(shared: LiveHub) -> None:
    document = await shared.get("/api/openapi.json")
    await shared.create("api", "@say hello")
    await shared.until_done("api")
    count = await run_sync(partial(try_out, document, shared.url, shared.token, streams(document), 4))
    assert count >= 50
    for line in (await shared.get("/api/agents", limit=1000))["agents"]:
        await shared.http.delete(f"/api/agents/{line['name']}")
