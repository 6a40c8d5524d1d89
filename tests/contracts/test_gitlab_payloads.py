"""What the scripted GitLab answers is valid against GitLab's published models: TypeScript checks it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx2
import pytest
from anyio import run_process
from gitlab_forge import scripted_gitlab
from gitlab_payloads import project_id

pytestmark = [pytest.mark.anyio, pytest.mark.real_types]
TYPES = Path(__file__).resolve().parents[2] / ".gitlab-types"
# A job's user: the model has fields there that GitLab only shows to administrators.
JOB = 'Omit<JobSchema, "user"> & {user: SimpleUserSchema}'


async def checked(answers: list[tuple[str, Any]]) -> tuple[int, str]:
    """The compiler's exit code and words on these answers, each with the type that it must have."""
    names = ("MergeRequestSchema", "ExpandedMergeRequestSchema", "MergeRequestLevelMergeRequestApprovalSchema",
             "MergeRequestReviewerSchema", "MergeRequestNoteSchema", "JobSchema", "SimpleProjectSchema",
             "SimpleUserSchema")  # fmt: skip
    lines = [f'import type {{{", ".join(names)}}} from "@gitbeaker/core";']
    lines += [f"export const a{n}: {kind} = {json.dumps(data)};" for n, (kind, data) in enumerate(answers)]
    file = TYPES / f"answers-{id(answers)}.ts"
    file.write_text("\n".join(lines) + "\n")
    try:
        command = ["node", str(TYPES / "node_modules/typescript/bin/tsc"), "--noEmit", "--strict", "--skipLibCheck",
                   "--module", "nodenext", "--target", "es2022", str(file)]  # fmt: skip
        done = await run_process(command, cwd=TYPES, check=False)
        return done.returncode, done.stdout.decode()
    finally:
        file.unlink()


@pytest.fixture
def types() -> None:
    if not (TYPES / "installed").exists() or shutil.which("node") is None:
        pytest.skip("GitLab's types are not installed: scripts/install_gitlab_types.sh")


async def test_every_answer_is_valid(types: None) -> None:
    async with scripted_gitlab() as forge, httpx2.AsyncClient(base_url=forge.url, trust_env=False) as client:
        sha = "a" * 40
        pull = forge.open_pull("acme/shop", "qd/alice", sha=sha)
        pull.mergeable, pull.draft = False, True
        merged = forge.open_pull("acme/shop", "qd/bob", sha="b" * 40)
        forge.close("acme/shop", merged.number, merged=True)
        forge.check("acme/shop", sha, "unit", "failure")
        forge.review("acme/shop", pull.number, "bob", "CHANGES_REQUESTED", "no")
        forge.say("acme/shop", pull.number, "bob", "a.py:3::not here")
        forge.pipelines[pull.number] = (sha, "refs/merge-requests/1/head")
        forge.review("acme/shop", pull.number, "eve", "APPROVED")
        base = "/api/v4/projects/acme%2Fshop"
        one = f"{base}/merge_requests/{pull.number}"
        answers: list[tuple[str, Any]] = []
        for path, kind in (
            (base, "SimpleProjectSchema"),
            (f"{base}/merge_requests?state=all&per_page=100", "MergeRequestSchema[]"),
            (one, "ExpandedMergeRequestSchema"),
            (f"{base}/merge_requests/{merged.number}", "ExpandedMergeRequestSchema"),
            (f"{one}/approvals", "MergeRequestLevelMergeRequestApprovalSchema"),
            (f"{one}/reviewers", "MergeRequestReviewerSchema[]"),
            (f"{one}/notes", "MergeRequestNoteSchema[]"),
            (f"/api/v4/projects/{project_id('acme/shop')}/pipelines/{pull.number}/jobs", f"({JOB})[]"),
        ):
            answer = await client.get(path)
            assert answer.status_code == 200, path
            assert answer.json(), path
            answers.append((kind, answer.json()))
    code, words = await checked(answers)
    assert code == 0, words
    # The compiler does look: a state that GitLab does not have is refused.
    kind, reviewers = answers[5]
    code, words = await checked([(kind, [{**reviewers[0], "state": "angry"}])])
    assert code != 0
    assert "angry" in words
