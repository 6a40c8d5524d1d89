"""The github collector: the pull request of the checked-out branch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from quarterdeck.metadata.collectors.forge import LISTING_PAGES, Forge, together
from quarterdeck.metadata.collectors.forge_collector import ForgeCollector, Seen, Target
from quarterdeck.metadata.collectors.pull_request import (
    ChangeRequest,
    Check,
    Decision,
    PullRequest,
    summary_of,
)

GOOD = frozenset({"success", "neutral", "skipped"})
# Whoever has a GitHub account may review a public repository; what these write may become an agent's task.
TRUSTED = frozenset({"OWNER", "MEMBER", "COLLABORATOR"})
# Of the reviews that ask for changes, and of their comments: more would not fit into the fact.
MOST_COMMENTED = 5
MOST_COMMENTS = 20
COMMENT_CHARACTERS = 500


class GithubCollector(ForgeCollector):
    """Asks GitHub's REST API: one listing per repository, then four small answers about our request."""

    name = "github"
    public_host = "github.com"

    def _api(self, host: str) -> str:
        return "https://api.github.com" if host == self.public_host else f"https://{host}/api/v3"

    def _headers(self) -> Mapping[str, str]:
        return {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}

    async def _request(self, forge: Forge, target: Target, seen: Seen, max_age: float) -> PullRequest | None:
        base = f"/repos/{quote(target.repository.path)}"
        label = f"{target.source.owner}:{target.branch}"
        listing = await forge.pages(
            f"{base}/pulls?state=open&sort=updated&direction=desc&per_page=100",
            _keep_pulls,
            max_age,
            most=LISTING_PAGES,
            enough=lambda pulls: _of_branch(pulls, label) is not None,
        )
        found = _of_branch(seen.take(listing), label)
        if found is None:
            # Perhaps it is closed: asked for this branch alone, and not so often, unless it may be further back.
            query = f"state=all&head={quote(label, safe='')}&sort=updated&direction=desc&per_page=20"
            times = 4 if listing.whole else 1
            ended = await forge.get(f"{base}/pulls?{query}", _keep_pulls, max_age * times)
            found = _of_branch(seen.take(ended, times), label)
            if found is None:
                return None
        number = found["number"]
        whole = await forge.get(f"{base}/pulls/{number}", _keep_pull, max_age)
        pull = seen.take(whole)
        sha = pull["head"]
        documents = await together(
            forge.pages(f"{base}/pulls/{number}/reviews?per_page=100", _keep_reviews, max_age),
            forge.pages(f"{base}/commits/{sha}/check-runs?per_page=100", _keep_runs, max_age),
            forge.pages(f"{base}/commits/{sha}/status?per_page=100", _keep_statuses, max_age),
        )
        reviews, runs, statuses = (seen.take(document) for document in documents)
        latest = latest_reviews(reviews)
        asking = [review for review in latest if review["state"] == "CHANGES_REQUESTED"]
        comments = await together(
            *(
                forge.get(
                    f"{base}/pulls/{number}/reviews/{review['id']}/comments?per_page={MOST_COMMENTS}",
                    _keep_comments,
                    max_age,
                )
                for review in asking[:MOST_COMMENTED]
            )
        )
        remarks: list[list[str]] = [seen.take(document) for document in comments]
        remarks += [[]] * (len(asking) - len(remarks))
        failing = tuple(Check(c["name"], c["url"]) for c in (*runs, *statuses) if c["result"] == "failing")
        pending = sum(c["result"] == "pending" for c in (*runs, *statuses))
        return PullRequest(
            number=number,
            url=pull["url"],
            title=pull["title"],
            state="merged" if pull["merged"] else "closed" if pull["state"] == "closed" else "open",
            draft=pull["draft"],
            mergeable=pull["mergeable"],
            decision=decision(latest, pull["requested"]),
            checks=summary_of(len(failing), pending, len(runs) + len(statuses) - len(failing) - pending),
            failing=failing,
            change_requests=tuple(
                ChangeRequest(str(review["id"]), review["author"], "\n\n".join(filter(None, words)), review["url"])
                for review, more in zip(asking, remarks, strict=True)
                for words in ([review["text"], *more],)
            ),
            head=sha,
            base=pull["base"],
            updated_at=pull["updated_at"],
            repository=f"{target.repository.host}/{target.repository.path}",
        )


def _of_branch(pulls: list[dict[str, Any]], label: str) -> dict[str, Any] | None:
    """The request of a branch: an open one before one that has ended, then the first."""
    ours = [pull for pull in pulls if _same_branch(pull["label"], label)]
    return next((pull for pull in ours if pull["open"]), ours[0] if ours else None)


def _same_branch(one: str, other: str) -> bool:
    """Whether two labels `owner:branch` are the same: names of owners know no case, those of branches do."""
    (owner, _, branch), (other_owner, _, other_branch) = one.partition(":"), other.partition(":")
    return owner.lower() == other_owner.lower() and branch == other_branch


def latest_reviews(reviews: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The review of each author that counts: the last that approved, asked for changes, or was dismissed.

    Only those of people who belong to the repository count; GitHub itself lets nobody else decide either.
    """
    by_author: dict[str, dict[str, Any]] = {}
    for review in reviews:
        if review["association"] in TRUSTED and review["state"] in ("APPROVED", "CHANGES_REQUESTED", "DISMISSED"):
            by_author[review["author"]] = review
    return list(by_author.values())


def decision(latest: list[dict[str, Any]], requested: int) -> Decision:
    """What the reviews come to."""
    states = {review["state"] for review in latest}
    if "CHANGES_REQUESTED" in states:
        return "changes_requested"
    if requested:
        return "review_required"
    return "approved" if "APPROVED" in states else "none"


def _keep_pulls(answer: Any) -> Any:
    return [
        {"number": pull["number"], "label": pull["head"]["label"] or "", "open": pull["state"] == "open"}
        for pull in answer
    ]


def _keep_pull(answer: Any) -> Any:
    return {
        "url": answer["html_url"],
        "title": answer["title"],
        "state": answer["state"],
        "merged": answer["merged_at"] is not None,
        "draft": bool(answer.get("draft")),
        "mergeable": answer["mergeable"],
        "head": answer["head"]["sha"],
        "base": answer["base"]["ref"],
        "updated_at": answer["updated_at"],
        "requested": len(answer.get("requested_reviewers") or ()) + len(answer.get("requested_teams") or ()),
    }


def _keep_reviews(answer: Any) -> Any:
    return [
        {
            "id": review["id"],
            "author": (review["user"] or {}).get("login", "ghost"),
            "state": review["state"],
            "association": review["author_association"],
            "text": (review["body"] or "")[:4000],
            "url": review["html_url"],
        }
        for review in answer
    ]


def _keep_comments(answer: Any) -> Any:
    return [
        f"{comment['path']}:{line}: {text}" if line else f"{comment['path']}: {text}"
        for comment in answer
        for line in (comment.get("line") or comment.get("original_line"),)
        for text in ((comment["body"] or "")[:COMMENT_CHARACTERS],)
    ]


def _keep_runs(answer: Any) -> Any:
    return [
        {
            "name": run["name"],
            "url": run.get("details_url") or run.get("html_url") or "",
            "result": "pending"
            if run["status"] != "completed"
            else "passing"
            if run["conclusion"] in GOOD
            else "failing",
        }
        for run in answer["check_runs"]
    ]


def _keep_statuses(answer: Any) -> Any:
    results = {"success": "passing", "pending": "pending"}
    return [
        {
            "name": status["context"],
            "url": status.get("target_url") or "",
            "result": results.get(status["state"], "failing"),
        }
        for status in answer["statuses"]
    ]
