"""Bodies of GitHub's REST API, complete enough to be valid against its published models. Pure."""

from __future__ import annotations

from typing import Any

_REPOSITORY_URLS = [
    "archive", "assignees", "blobs", "branches", "collaborators", "comments", "commits", "compare",
    "contents", "contributors", "deployments", "downloads", "events", "forks", "git_commits",
    "git_refs", "git_tags", "git", "issue_comment", "issue_events", "issues", "keys", "labels",
    "languages", "merges", "milestones", "notifications", "pulls", "releases", "ssh", "stargazers",
    "statuses", "subscribers", "subscription", "tags", "teams", "trees", "clone", "mirror", "hooks",
    "svn",
]  # fmt: skip
_USER_URLS = [
    "followers", "following", "gists", "starred", "subscriptions", "organizations", "repos", "events",
    "received_events", "avatar", "html",
]  # fmt: skip
SINCE = "2026-01-01T00:00:00Z"


def user(url: str, login: str) -> dict[str, Any]:
    """A `SimpleUser`."""
    own = f"{url}/users/{login}"
    return {
        "login": login,
        "id": sum(login.encode()),
        "node_id": f"U_{login}",
        "gravatar_id": "",
        "url": own,
        "type": "User",
        "site_admin": False,
        **{f"{name}_url": f"{own}/{name}" for name in _USER_URLS},
    }


def repository(url: str, path: str) -> dict[str, Any]:
    """A `Repository`."""
    owner, _, name = path.partition("/")
    own = f"{url}/repos/{path}"
    return {
        "id": sum(path.encode()),
        "node_id": f"R_{name}",
        "name": name,
        "full_name": path,
        "private": False,
        "license": None,
        "owner": user(url, owner),
        "description": None,
        "fork": False,
        "url": own,
        "html_url": f"{url}/{path}",
        "homepage": None,
        "language": None,
        "forks": 0,
        "forks_count": 0,
        "stargazers_count": 0,
        "watchers_count": 0,
        "watchers": 0,
        "size": 1,
        "default_branch": "main",
        "open_issues_count": 0,
        "open_issues": 0,
        "has_issues": True,
        "has_projects": False,
        "has_wiki": False,
        "has_pages": False,
        "has_downloads": False,
        "archived": False,
        "disabled": False,
        "pushed_at": SINCE,
        "created_at": SINCE,
        "updated_at": SINCE,
        **{f"{part}_url": f"{own}/{part}" for part in _REPOSITORY_URLS},
    }


def pull(url: str, path: str, facts: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    """A `PullRequestSimple`, or with `whole` a `PullRequest`. `facts` are those of `forge.Pull`."""
    number = facts["number"]
    own, html = f"{url}/repos/{path}/pulls/{number}", f"{url}/{path}/pull/{number}"
    repo = repository(url, path)
    closed = facts["state"] != "open"
    links = ("comments", "commits", "statuses", "issue", "review_comments", "review_comment")
    body: dict[str, Any] = {
        "url": own,
        "id": 1000 + number,
        "node_id": f"PR_{number}",
        "html_url": html,
        "diff_url": f"{html}.diff",
        "patch_url": f"{html}.patch",
        "issue_url": f"{url}/repos/{path}/issues/{number}",
        **{f"{name}_url": f"{own}/{name}" for name in links if name != "issue"},
        "number": number,
        "state": "closed" if closed else "open",
        "locked": False,
        "title": facts["title"],
        "user": user(url, facts["author"]),
        "body": None,
        "labels": [],
        "milestone": None,
        "created_at": SINCE,
        "updated_at": facts["updated_at"],
        "closed_at": facts["updated_at"] if closed else None,
        "merged_at": facts["updated_at"] if facts["state"] == "merged" else None,
        "draft": facts["draft"],
        "assignee": None,
        "requested_reviewers": [user(url, name) for name in facts["requested"]],
        "requested_teams": [],
        "head": _side(url, repo, facts["owner"], facts["branch"], facts["sha"]),
        "base": _side(url, repo, path.partition("/")[0], facts["base"], "0" * 40),
        "_links": {
            **{name: {"href": f"{own}/{name}"} for name in links},
            "html": {"href": html},
            "self": {"href": own},
        },
        "author_association": "MEMBER",
        "auto_merge": None,
    }
    if whole:
        body |= {
            "merged": facts["state"] == "merged",
            "mergeable": facts["mergeable"],
            "mergeable_state": "unknown" if facts["mergeable"] is None else "clean" if facts["mergeable"] else "dirty",
            "merged_by": user(url, facts["author"]) if facts["state"] == "merged" else None,
            "comments": 0,
            "review_comments": 0,
            "maintainer_can_modify": False,
            "commits": 1,
            "additions": 1,
            "deletions": 0,
            "changed_files": 1,
        }
    return body


def _side(url: str, repo: dict[str, Any], owner: str, ref: str, sha: str) -> dict[str, Any]:
    return {"label": f"{owner}:{ref}", "ref": ref, "sha": sha, "repo": repo, "user": user(url, owner)}


def review(url: str, path: str, number: int, facts: dict[str, Any]) -> dict[str, Any]:
    """A `PullRequestReview`."""
    html = f"{url}/{path}/pull/{number}#pullrequestreview-{facts['id']}"
    return {
        "id": facts["id"],
        "node_id": f"PRR_{facts['id']}",
        "user": user(url, facts["author"]),
        "body": facts["text"],
        "state": facts["state"],
        "html_url": html,
        "pull_request_url": f"{url}/repos/{path}/pulls/{number}",
        "_links": {"html": {"href": html}, "pull_request": {"href": f"{url}/repos/{path}/pulls/{number}"}},
        "submitted_at": SINCE,
        "commit_id": facts["sha"],
        "author_association": facts["association"],
    }


def review_comment(
    url: str, path: str, number: int, review: dict[str, Any], index: int, comment: tuple[str, int | None, str]
) -> dict[str, Any]:
    """A `ReviewComment`: path, line and text, among those of a review."""
    file, line, text = comment
    own = f"{url}/repos/{path}/pulls/comments/{index}"
    html = f"{url}/{path}/pull/{number}#discussion_r{index}"
    pull_url = f"{url}/repos/{path}/pulls/{number}"
    return {
        "url": own,
        "pull_request_review_id": review["id"],
        "id": index,
        "node_id": f"PRRC_{index}",
        "diff_hunk": "@@ -1 +1 @@",
        "path": file,
        "position": line,
        "original_position": 1,
        "line": line,
        "original_line": 1,
        "commit_id": review["sha"],
        "original_commit_id": review["sha"],
        "user": user(url, review["author"]),
        "body": text,
        "created_at": SINCE,
        "updated_at": SINCE,
        "html_url": html,
        "pull_request_url": pull_url,
        "author_association": review["association"],
        "_links": {"self": {"href": own}, "html": {"href": html}, "pull_request": {"href": pull_url}},
    }


def check_run(url: str, path: str, sha: str, index: int, name: str, conclusion: str | None) -> dict[str, Any]:
    """A `CheckRun`; a conclusion of None: it still runs."""
    return {
        "id": index,
        "head_sha": sha,
        "node_id": f"CR_{index}",
        "external_id": "",
        "url": f"{url}/repos/{path}/check-runs/{index}",
        "html_url": f"{url}/{path}/runs/{index}",
        "details_url": f"{url}/{path}/runs/{index}",
        "status": "in_progress" if conclusion is None else "completed",
        "conclusion": conclusion,
        "started_at": SINCE,
        "completed_at": None if conclusion is None else SINCE,
        "output": {"title": None, "summary": None, "text": None, "annotations_count": 0, "annotations_url": f"{url}/a"},
        "name": name,
        "check_suite": None,
        "app": None,
        "pull_requests": [],
    }


def combined_status(url: str, path: str, sha: str, statuses: dict[str, str], shown: dict[str, str]) -> dict[str, Any]:
    """A `CombinedCommitStatus` of the old kind of checks: context to state, and those on this page."""
    own = f"{url}/repos/{path}/commits/{sha}"
    bad = any(state in ("failure", "error") for state in statuses.values())
    return {
        "state": "failure" if bad else "success" if set(statuses.values()) == {"success"} else "pending",
        "statuses": [
            {
                "description": None,
                "id": index,
                "node_id": f"S_{index}",
                "state": state,
                "context": context,
                "target_url": f"{url}/{path}/status/{index}",
                "avatar_url": None,
                "url": f"{own}/statuses",
                "created_at": SINCE,
                "updated_at": SINCE,
            }
            for index, (context, state) in enumerate(shown.items(), 1)
        ],
        "sha": sha,
        "total_count": len(statuses),
        "repository": repository(url, path),
        "commit_url": own,
        "url": f"{own}/status",
    }
