"""What GitLab's REST API answers, whole: valid against its published TypeScript models (@gitbeaker/core)."""

from __future__ import annotations

import zlib
from typing import Any

from quarterdeck.scripted.forge import Pull

SINCE = "2026-01-01T00:00:00.000Z"


def project_id(path: str) -> int:
    """A project's number."""
    return zlib.crc32(path.encode())


def source_project(repository: str, pull: Pull) -> int:
    """The number of the project that a request comes from."""
    return project_id(f"{pull.owner}/{repository.partition('/')[2]}")


def user(url: str, name: str) -> dict[str, Any]:
    """A `SimpleUserSchema`."""
    return {
        "id": zlib.crc32(name.encode()),
        "name": name,
        "username": name,
        "state": "active",
        "avatar_url": f"{url}/avatar",
        "web_url": f"{url}/{name}",
    }


def project(url: str, path: str) -> dict[str, Any]:
    """A `SimpleProjectSchema`."""
    group, _, name = path.rpartition("/")
    return {
        "id": project_id(path),
        "web_url": f"{url}/{path}",
        "name": name,
        "path": name,
        "description": None,
        "name_with_namespace": f"{group} / {name}",
        "path_with_namespace": path,
        "created_at": SINCE,
        "default_branch": "main",
        "topics": [],
        "ssh_url_to_repo": f"git@gitlab.example:{path}.git",
        "http_url_to_repo": f"{url}/{path}.git",
        "readme_url": None,
        "forks_count": 0,
        "avatar_url": None,
        "star_count": 0,
        "last_activity_at": SINCE,
        "namespace": {
            "id": project_id(group),
            "name": group,
            "path": group,
            "kind": "group",
            "full_path": group,
            "parent_id": None,
            "avatar_url": None,
            "web_url": f"{url}/groups/{group}",
        },
    }


def merge_request(url: str, repository: str, pull: Pull) -> dict[str, Any]:
    """A `MergeRequestSchema`, as a listing has it."""
    target = project_id(repository)
    reference = f"!{pull.number}"
    return {
        "id": pull.number + 1000,
        "iid": pull.number,
        "project_id": target,
        "title": pull.title,
        "description": None,
        "state": "opened" if pull.state == "open" else pull.state,
        "created_at": SINCE,
        "updated_at": pull.updated_at,
        "web_url": f"{url}/{repository}/-/merge_requests/{pull.number}",
        "merged_by": user(url, "maintainer") if pull.state == "merged" else None,
        "merged_at": SINCE if pull.state == "merged" else None,
        "closed_by": user(url, "maintainer") if pull.state == "closed" else None,
        "closed_at": SINCE if pull.state == "closed" else None,
        "target_branch": pull.base,
        "source_branch": pull.branch,
        "user_notes_count": len(pull.reviews),
        "upvotes": 0,
        "downvotes": 0,
        "author": user(url, pull.author),
        "assignees": [],
        "assignee": None,
        "reviewers": [user(url, name) for name in sorted({review["author"] for review in pull.reviews})],
        "source_project_id": source_project(repository, pull),
        "target_project_id": target,
        "labels": [],
        "draft": pull.draft,
        "work_in_progress": pull.draft,
        "milestone": None,
        "merge_when_pipeline_succeeds": False,
        "merge_status": "can_be_merged" if pull.mergeable else "cannot_be_merged",
        "detailed_merge_status": "mergeable" if pull.mergeable else "broken_status",
        "sha": pull.sha,
        "merge_commit_sha": None,
        "squash_commit_sha": None,
        "discussion_locked": None,
        "should_remove_source_branch": None,
        "force_remove_source_branch": False,
        "reference": reference,
        "references": {"short": reference, "relative": reference, "full": f"{repository}{reference}"},
        "time_stats": {
            "time_estimate": 0,
            "total_time_spent": 0,
            "human_time_estimate": None,
            "human_total_time_spent": None,
        },
        "squash": False,
        "task_completion_status": {"count": 0, "completed_count": 0},
        "prepared_at": SINCE,
        "has_conflicts": not pull.mergeable,
        "blocking_discussions_resolved": True,
        "approvals_before_merge": None,
    }


def whole_merge_request(
    url: str, repository: str, pull: Pull, checks: dict[str, str | None], of: tuple[str, str] | None = None
) -> dict[str, Any]:
    """An `ExpandedMergeRequestSchema`. `of`: commit and ref of its pipeline, where these are not the request's."""
    found = pipeline(url, repository, pull, checks) if checks else None
    if found is not None and of is not None:
        found |= {"sha": of[0], "ref": of[1]}
    return {
        **merge_request(url, repository, pull),
        "subscribed": False,
        "changes_count": "1",
        "latest_build_started_at": SINCE if checks else None,
        "latest_build_finished_at": None,
        "first_deployed_to_production_at": None,
        "pipeline": found,
        "head_pipeline": None if found is None else {**found, **_expanded(url)},
        "diff_refs": {"base_sha": "0" * 40, "head_sha": pull.sha, "start_sha": "0" * 40},
        "merge_error": None,
        "first_contribution": False,
        "user": {"can_merge": True},
    }


def pipeline(url: str, repository: str, pull: Pull, checks: dict[str, str | None]) -> dict[str, Any]:
    """A `PipelineSchema`."""
    status = "failed" if "failure" in checks.values() else "running" if None in checks.values() else "success"
    return {
        "id": pull.number,
        "iid": pull.number,
        "project_id": source_project(repository, pull),
        "sha": pull.sha,
        "ref": pull.branch,
        "status": status,
        "source": "push",
        "created_at": SINCE,
        "updated_at": SINCE,
        "web_url": f"{url}/{repository}/-/pipelines/{pull.number}",
    }


def _expanded(url: str) -> dict[str, Any]:
    return {
        "before_sha": "0" * 40,
        "tag": False,
        "yaml_errors": None,
        "user": user(url, "agent"),
        "started_at": SINCE,
        "finished_at": SINCE,
        "committed_at": SINCE,
        "duration": 1,
        "queued_duration": 1,
        "coverage": None,
        "detailed_status": {
            "icon": "status",
            "text": "text",
            "label": "label",
            "group": "group",
            "tooltip": "tooltip",
            "has_details": True,
            "details_path": "/details",
            "illustration": None,
            "favicon": "/favicon",
        },
    }


def job(url: str, repository: str, pull: Pull, name: str, checks: dict[str, str | None]) -> dict[str, Any]:
    """A `JobSchema` of a job that failed."""
    return {
        "id": zlib.crc32(name.encode()),
        "name": name,
        "stage": "test",
        "status": "failed",
        "ref": pull.branch,
        "tag": False,
        "allow_failure": False,
        "created_at": SINCE,
        "started_at": SINCE,
        "finished_at": SINCE,
        "duration": 1,
        "queued_duration": 1,
        "failure_reason": "script_failure",
        "user": {**user(url, "agent"), "created_at": SINCE},
        "commit": {
            "id": pull.sha,
            "short_id": pull.sha[:8],
            "message": "m",
            "title": "m",
            "author_email": "a@example.invalid",
            "author_name": "a",
            "created_at": SINCE,
        },
        "pipeline": pipeline(url, repository, pull, checks),
        "web_url": f"{url}/{repository}/-/jobs/{zlib.crc32(name.encode())}",
        "artifacts": [],
        "artifacts_file": {"filename": "a", "size": 0},
        "runner": {
            "id": 1,
            "paused": False,
            "description": "",
            "ip_address": "127.0.0.1",
            "is_shared": True,
            "runner_type": "instance_type",
            "name": "r",
            "online": True,
            "status": "online",
        },
    }


def approvals(url: str, repository: str, pull: Pull) -> dict[str, Any]:
    """A `MergeRequestLevelMergeRequestApprovalSchema`."""
    return {
        "id": pull.number + 1000,
        "iid": pull.number,
        "project_id": project_id(repository),
        "title": pull.title,
        "description": "",
        "state": "opened",
        "created_at": SINCE,
        "updated_at": pull.updated_at,
        "merge_status": "can_be_merged",
        "approvals_required": 0,
        "approvals_left": 0,
        "approved_by": [{"user": user(url, r["author"])} for r in pull.reviews if r["state"] == "APPROVED"],
    }


def reviewer(url: str, review: dict[str, Any]) -> dict[str, Any]:
    """A `MergeRequestReviewerSchema`."""
    states = {"APPROVED": "approved", "CHANGES_REQUESTED": "requested_changes"}
    return {"user": user(url, review["author"]), "state": states[review["state"]], "created_at": SINCE}


def note(url: str, repository: str, pull: Pull, facts: dict[str, Any]) -> dict[str, Any]:
    """A `MergeRequestNoteSchema`; with a place (`path:line`), one on the changes."""
    path, _, line = (facts["place"] or "").partition(":")
    position = {"position": {"position_type": "text", "new_path": path, "old_path": path, "new_line": int(line),
                             "old_line": None, "base_sha": "0" * 40, "start_sha": "0" * 40,
                             "head_sha": pull.sha}} if path else {}  # fmt: skip
    return {
        **position,
        "id": facts["id"],
        "body": facts["text"],
        "attachment": None,
        "author": user(url, facts["author"]),
        "created_at": facts["at"],
        "updated_at": facts["at"],
        "system": facts["system"],
        "noteable_id": pull.number + 1000,
        "noteable_type": "MergeRequest",
        "noteable_iid": pull.number,
        "project_id": project_id(repository),
        "resolvable": False,
    }
