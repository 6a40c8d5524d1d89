"""A pull or merge request as facts: one form for every forge. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from quarterdeck.metadata.model import MAX_VALUE_BYTES, Schema, clean_text

Checks = Literal["passing", "failing", "pending", "none"]
Decision = Literal["approved", "changes_requested", "review_required", "none"]

KEYS: dict[str, Schema] = {
    "pull_request_number": Schema("number of the branch's pull or merge request; null when it has none", True),
    "pull_request_url": Schema("its page", True),
    "pull_request_title": Schema("its title"),
    "pull_request_state": Schema("open, closed, merged, or none", True),
    "pull_request_draft": Schema("whether it is a draft"),
    "pull_request_mergeable": Schema("whether it can be merged without conflicts; null while the forge finds out"),
    "pull_request_review_decision": Schema("approved, changes_requested, review_required or none", True),
    "pull_request_check_status": Schema("passing, failing, pending or none, for its newest commit", True),
    "pull_request_failing_checks": Schema("name and url of each failing check"),
    "pull_request_change_requests": Schema("id, author, text and url of each review that asks for changes"),
    "pull_request_head": Schema("its newest commit, as the forge knows it"),
    "pull_request_base": Schema("the branch that it wants to go into"),
    "pull_request_updated_at": Schema("when it last changed on the forge"),
    "pull_request_repository": Schema("host and path of the repository that it is in"),
    "fleet_mcp_pull_request_url": Schema("the same as pull_request_url"),
    "fleet_mcp_pull_request_status": Schema("open, draft, closed, merged or none"),
    "fleet_mcp_pull_request_check_status": Schema("the same as pull_request_check_status"),
}
_LIST_BYTES = MAX_VALUE_BYTES - 200


@dataclass(frozen=True)
class Check:
    """One check that failed."""

    name: str
    url: str


@dataclass(frozen=True)
class ChangeRequest:
    """One review that asks for changes."""

    id: str
    author: str
    text: str
    url: str


@dataclass(frozen=True)
class PullRequest:
    """What a forge tells of one request."""

    number: int
    url: str
    title: str
    state: Literal["open", "closed", "merged"]
    draft: bool
    mergeable: bool | None
    decision: Decision
    checks: Checks
    failing: tuple[Check, ...]
    change_requests: tuple[ChangeRequest, ...]
    head: str
    base: str
    updated_at: str
    repository: str


def no_request() -> dict[str, Any]:
    """The facts of a branch without one."""
    return {
        "pull_request_number": None,
        "pull_request_state": "none",
        "fleet_mcp_pull_request_status": "none",
    }


def facts(request: PullRequest) -> dict[str, Any]:
    """The facts of one request; lists are cut where a value would become too large."""
    # Each has its share: a review that is left out would never be told to anybody.
    text_bytes = max(100, min(1500, 3600 // max(len(request.change_requests), 1) - 300))
    status = "draft" if request.draft and request.state == "open" else request.state
    return {
        "pull_request_number": request.number,
        "pull_request_url": clean_text(request.url, 1000),
        "pull_request_title": clean_text(request.title, 1000),
        "pull_request_state": request.state,
        "pull_request_draft": request.draft,
        "pull_request_mergeable": request.mergeable,
        "pull_request_review_decision": request.decision,
        "pull_request_check_status": request.checks,
        "pull_request_failing_checks": _fitting(
            {"name": clean_text(c.name, 200), "url": clean_text(c.url, 500)} for c in request.failing
        ),
        "pull_request_change_requests": _fitting(
            {
                "id": r.id,
                "author": clean_text(r.author, 100),
                "text": clean_text(r.text.replace("\r\n", "\n"), text_bytes),
                "url": clean_text(r.url, 500),
            }
            for r in request.change_requests
        ),
        "pull_request_head": request.head,
        "pull_request_base": clean_text(request.base, 300),
        "pull_request_updated_at": request.updated_at,
        "pull_request_repository": request.repository,
        "fleet_mcp_pull_request_url": clean_text(request.url, 1000),
        "fleet_mcp_pull_request_status": status,
        "fleet_mcp_pull_request_check_status": request.checks,
    }


def _fitting(items: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    kept: list[Mapping[str, Any]] = []
    size = 2
    for item in items:
        size += len(msgspec.json.encode(item)) + 1
        if size > _LIST_BYTES:
            break
        kept.append(item)
    return kept


def summary_of(failing: int, pending: int, passed: int) -> Checks:
    """The status of all checks from their numbers."""
    if failing:
        return "failing"
    if pending:
        return "pending"
    return "passing" if passed else "none"
