"""The gitlab collector: the merge request of the checked-out branch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from quarterdeck.metadata.collectors.forge import LISTING_PAGES, Forge, together
from quarterdeck.metadata.collectors.forge_collector import ForgeCollector, Seen, Target
from quarterdeck.metadata.collectors.gitlab_notes import change_request, keep_notes, tell_all_requests
from quarterdeck.metadata.collectors.pull_request import (
    Check,
    Checks,
    Decision,
    PullRequest,
)

_CHECKS: dict[str, Checks] = {"success": "passing", "failed": "failing", "canceled": "failing", "skipped": "none"}
# What these pipelines test is a commit of GitLab's own making: the request merged into its target.
_MERGED_REF = re.compile(r"refs/merge-requests/\d+/(merge|train)\Z")


class GitlabCollector(ForgeCollector):
    """Asks GitLab's REST API: one listing per project, then the request, its reviewers and its failed jobs."""

    name = "gitlab"
    public_host = "gitlab.com"

    def _api(self, host: str) -> str:
        return f"https://{host}/api/v4"

    def _headers(self) -> Mapping[str, str]:
        return {"Accept": "application/json"}

    async def _request(self, forge: Forge, target: Target, seen: Seen, max_age: float) -> PullRequest | None:
        base = f"/projects/{quote(target.repository.path, safe='')}"
        # A stranger's fork may have a branch of the same name: the project that it comes from counts too.
        source: int | None = None
        if target.source.path.lower() != target.repository.path.lower():
            fork = f"/projects/{quote(target.source.path, safe='')}"
            source = seen.take(await forge.get(fork, _keep_project, max_age * 4), 4)["id"]
        listing = await forge.pages(
            f"{base}/merge_requests?state=opened&order_by=updated_at&per_page=100",
            _keep_list,
            max_age,
            most=LISTING_PAGES,
            enough=lambda items: _ours(items, target.branch, source) is not None,
        )
        found = _ours(seen.take(listing), target.branch, source)
        if found is None:
            # Perhaps it is closed: asked for this branch alone, and not so often, unless it may be further back.
            query = f"state=all&source_branch={quote(target.branch, safe='')}&order_by=updated_at&per_page=20"
            times = 4 if listing.whole else 1
            ended = await forge.pages(f"{base}/merge_requests?{query}", _keep_list, max_age * times)
            found = _ours(seen.take(ended, times), target.branch, source)
            if found is None:
                return None
        one = f"{base}/merge_requests/{found['number']}"
        merge = seen.take(await forge.get(one, _keep_one, max_age))
        documents = await together(
            forge.get(f"{one}/approvals", _keep_approvals, max_age),
            forge.pages(f"{one}/reviewers?per_page=100", _keep_reviewers, max_age),
        )
        approvals, reviewers = (seen.take(document) for document in documents)
        asking = [r["name"] for r in reviewers if r["state"] == "requested_changes"]
        notes: list[dict[str, Any]] = []
        if asking:
            notes = seen.take(
                await forge.pages(
                    f"{one}/notes?sort=desc&order_by=created_at&per_page=100",
                    keep_notes,
                    max_age,
                    most=LISTING_PAGES,
                    enough=lambda found: tell_all_requests(found, asking),
                )
            )
        checks = checks_of(merge)
        jobs: list[dict[str, Any]] = []
        if checks == "failing":
            # That of a fork's branch runs in the fork.
            project = base if merge["pipeline_project"] is None else f"/projects/{merge['pipeline_project']}"
            failed = f"{project}/pipelines/{merge['pipeline']}/jobs?scope[]=failed&per_page=100"
            jobs = seen.take(await forge.pages(failed, _keep_jobs, max_age))
        return PullRequest(
            number=merge["number"],
            url=merge["url"],
            title=merge["title"],
            state="merged" if merge["state"] == "merged" else "closed" if merge["state"] == "closed" else "open",
            draft=merge["draft"],
            mergeable=merge["mergeable"],
            decision=decision(asking, reviewers, approvals),
            checks=checks,
            failing=tuple(Check(job["name"], job["url"]) for job in jobs)
            or ((Check("pipeline", merge["pipeline_url"]),) if checks == "failing" else ()),
            change_requests=tuple(change_request(name, merge["head"], notes, merge["url"]) for name in asking),
            head=merge["head"],
            base=merge["base"],
            updated_at=merge["updated_at"],
            repository=f"{target.repository.host}/{target.repository.path}",
        )


def _ours(listing: list[dict[str, Any]], branch: str, source: int | None) -> dict[str, Any] | None:
    """The newest request of this branch that comes from the project itself, or from the project `source`; an open
    one before one that has ended.
    """
    ours = [
        item
        for item in listing
        if item["branch"] == branch and item["source"] == (item["target"] if source is None else source)
    ]
    return next((item for item in ours if item["open"]), ours[0] if ours else None)


def checks_of(merge: Mapping[str, Any]) -> Checks:
    """The status of the newest commit's pipeline. GitLab shows that of the commit before until a new one begins."""
    if not merge["pipeline"]:
        return "none"
    old = merge["pipeline_sha"] != merge["head"] and not _MERGED_REF.match(merge["pipeline_ref"])
    return "pending" if old and merge["head"] else _CHECKS.get(merge["pipeline_status"], "pending")


def decision(asking: list[str], reviewers: list[dict[str, Any]], approvals: dict[str, Any]) -> Decision:
    """What reviewers and approvals come to."""
    if asking:
        return "changes_requested"
    if approvals["left"] > 0 or any(r["state"] == "unreviewed" for r in reviewers):
        return "review_required"
    return "approved" if approvals["by"] else "none"


def _keep_list(answer: Any) -> Any:
    return [
        {
            "number": item["iid"],
            "branch": item["source_branch"],
            "source": item["source_project_id"],
            "target": item["target_project_id"],
            "open": item["state"] == "opened",
        }
        for item in answer
    ]


def _keep_project(answer: Any) -> Any:
    return {"id": answer["id"]}


def _keep_one(answer: Any) -> Any:
    pipeline = answer.get("head_pipeline") or {}
    status = answer.get("detailed_merge_status") or answer.get("merge_status")
    unknown = status in ("unchecked", "checking", "preparing", "cannot_be_merged_recheck", None)
    return {
        "number": answer["iid"],
        "url": answer["web_url"],
        "title": answer["title"],
        "state": answer["state"],
        "draft": bool(answer.get("draft")),
        "mergeable": None if unknown else not answer.get("has_conflicts"),
        "head": answer["sha"] or "",
        "base": answer["target_branch"],
        "updated_at": answer["updated_at"],
        "pipeline": pipeline.get("id"),
        "pipeline_status": pipeline.get("status"),
        "pipeline_sha": pipeline.get("sha") or "",
        "pipeline_ref": pipeline.get("ref") or "",
        "pipeline_project": pipeline.get("project_id"),
        "pipeline_url": pipeline.get("web_url") or "",
    }


def _keep_approvals(answer: Any) -> Any:
    return {"left": answer.get("approvals_left") or 0, "by": len(answer.get("approved_by") or ())}


def _keep_reviewers(answer: Any) -> Any:
    return [{"name": item["user"]["username"], "state": item["state"]} for item in answer]


def _keep_jobs(answer: Any) -> Any:
    return [{"name": job["name"], "url": job.get("web_url") or ""} for job in answer if not job.get("allow_failure")]
