"""The gitlab collector: the merge request of the checked-out branch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from quarterdeck.metadata.collectors.forge import Forge, together
from quarterdeck.metadata.collectors.forge_collector import ForgeCollector, Seen, Target
from quarterdeck.metadata.collectors.pull_request import (
    ChangeRequest,
    Check,
    Checks,
    Decision,
    PullRequest,
)

_CHECKS: dict[str, Checks] = {"success": "passing", "failed": "failing", "canceled": "failing", "skipped": "none"}


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
        listing = seen.take(
            await forge.pages(
                f"{base}/merge_requests?state=opened&order_by=updated_at&per_page=100", _keep_list, max_age
            )
        )
        # A stranger's fork may have a branch of the same name: the project that it comes from counts too.
        source: int | None = None
        if target.source.path.lower() != target.repository.path.lower():
            fork = f"/projects/{quote(target.source.path, safe='')}"
            source = seen.take(await forge.get(fork, _keep_project, max_age * 4))["id"]
        found = _ours(listing, target.branch, source)
        if found is None:
            query = f"state=all&source_branch={quote(target.branch, safe='')}&order_by=updated_at&per_page=20"
            ended = seen.take(await forge.pages(f"{base}/merge_requests?{query}", _keep_list, max_age * 4))
            found = _ours(ended, target.branch, source)
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
                await forge.get(f"{one}/notes?sort=desc&order_by=created_at&per_page=50", _keep_notes, max_age)
            )
        checks = _CHECKS.get(merge["pipeline_status"], "pending") if merge["pipeline"] else "none"
        jobs: list[dict[str, Any]] = []
        if checks == "failing":
            jobs = seen.take(
                await forge.pages(
                    f"{base}/pipelines/{merge['pipeline']}/jobs?scope[]=failed&per_page=100", _keep_jobs, max_age
                )
            )
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
            change_requests=tuple(_change_request(name, notes, merge["url"]) for name in asking),
            head=merge["head"],
            base=merge["base"],
            updated_at=merge["updated_at"],
            repository=f"{target.repository.host}/{target.repository.path}",
        )


def _ours(listing: list[dict[str, Any]], branch: str, source: int | None) -> dict[str, Any] | None:
    """The newest request of this branch that comes from the project itself, or from the project `source`."""
    for item in listing:
        if item["branch"] == branch and item["source"] == (item["target"] if source is None else source):
            return item
    return None


def decision(asking: list[str], reviewers: list[dict[str, Any]], approvals: dict[str, Any]) -> Decision:
    """What reviewers and approvals come to."""
    if asking:
        return "changes_requested"
    if approvals["left"] > 0 or any(r["state"] == "unreviewed" for r in reviewers):
        return "review_required"
    return "approved" if approvals["by"] else "none"


def _change_request(name: str, notes: list[dict[str, Any]], url: str) -> ChangeRequest:
    """A reviewer asks for changes without saying in which note: the last one written is the best we have."""
    note = next((n for n in notes if n["author"] == name), None)
    if note is None:
        return ChangeRequest(f"by:{name}", name, "", url)
    return ChangeRequest(str(note["id"]), name, note["text"], f"{url}#note_{note['id']}")


def _keep_list(answer: Any) -> Any:
    return [
        {
            "number": item["iid"],
            "branch": item["source_branch"],
            "source": item["source_project_id"],
            "target": item["target_project_id"],
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
        "pipeline_url": pipeline.get("web_url") or "",
    }


def _keep_approvals(answer: Any) -> Any:
    return {"left": answer.get("approvals_left") or 0, "by": len(answer.get("approved_by") or ())}


def _keep_reviewers(answer: Any) -> Any:
    return [{"name": item["user"]["username"], "state": item["state"]} for item in answer]


def _keep_notes(answer: Any) -> Any:
    return [
        {"id": note["id"], "author": note["author"]["username"], "text": (note["body"] or "")[:4000]}
        for note in answer
        if not note.get("system")
    ]


def _keep_jobs(answer: Any) -> Any:
    return [{"name": job["name"], "url": job.get("web_url") or ""} for job in answer if not job.get("allow_failure")]
