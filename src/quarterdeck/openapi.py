"""The OpenAPI 3.1 document of a table of routes (see `web`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from quarterdeck.errors import InvalidInput, TooLarge, Unauthenticated
from quarterdeck.web import Param, Route, maximum_of


def openapi_of(title: str, version: str, description: str, routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a table."""
    kinds = [k for r in routes for k in (r.body, r.answer) if k is not None]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    schema_of = {_key(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(_plain(route.path), {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": _ERROR_SCHEMA},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}],
    }


_ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "hint": {"type": "string"},
                "details": {"type": "object"},
            },
        }
    },
}


_TEXT = {"type": "string"}


def _key(kind: Any) -> str:
    return repr(kind)


def _plain(path: str) -> str:
    """Starlette's `{name:path}` as OpenAPI writes it."""
    return path.replace(":path}", "}")


def _operation(route: Route, schema_of: Mapping[str, Any]) -> dict[str, Any]:
    names = [part.strip("{}").split(":")[0] for part in route.path.split("/") if part.startswith("{")]
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
    ]
    parameters += [_parameter(p, "query") for p in route.query] + [_parameter(p, "header") for p in route.headers]
    content = {route.media_type: {"schema": schema_of[_key(route.answer)]}} if route.answer is not None else None
    success: dict[str, Any] = {"description": "done"}
    if content:
        success["content"] = content
    elif route.media_type != "application/json":
        success["content"] = {route.media_type: {"schema": {"type": "string"}}}
    no_body = route.answer is None and route.media_type == "application/json"
    responses: dict[str, Any] = {"204" if no_body else str(route.status): success}
    responses.update({str(status): success for status in route.also})
    responses.update({str(status): {"description": meaning} for status, meaning in route.bare.items()})
    if route.answer_headers:
        told = {name: {"description": text, "schema": _TEXT} for name, text in route.answer_headers.items()}
        responses = {status: {**response, "headers": told} for status, response in responses.items()}
    for kind in (InvalidInput, Unauthenticated, *((TooLarge,) if route.body else ()), *route.errors):
        responses[str(kind.http_status)] = {
            "description": (kind.__doc__ or "").strip().splitlines()[0],
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    operation: dict[str, Any] = {"summary": route.summary, "parameters": parameters, "responses": responses}
    if route.tags:
        operation["tags"] = list(route.tags)
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema_of[_key(route.body)]}},
        }
    return operation


def _parameter(param: Param, where: str) -> dict[str, Any]:
    schema = msgspec.json.schema(param.kind)
    if param.minimum is not None:
        schema["minimum"] = param.minimum
    if (maximum := maximum_of(param)) is not None:
        schema["maximum"] = maximum
    if param.pattern is not None:
        schema["pattern"] = f"^(?:{param.pattern})$"
    if param.default is not None:
        schema["default"] = param.default
    return {
        "name": param.name,
        "in": where,
        "required": False,
        "description": param.description,
        "schema": schema,
    }
