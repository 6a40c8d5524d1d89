"""What the scripted forge answers is valid against GitHub's published models (githubkit ships them)."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from quarterdeck.scripted.forge import scripted_forge

pytestmark = pytest.mark.anyio


@pytest.mark.filterwarnings("ignore")
async def test_every_answer_is_valid() -> None:
    from githubkit.versions.latest import models
    from pydantic import TypeAdapter

    async with scripted_forge() as forge, httpx2.AsyncClient(base_url=forge.url, trust_env=False) as client:
        sha = "a" * 40
        pull = forge.open_pull("acme/shop", "qd/alice", sha=sha)
        merged = forge.open_pull("acme/shop", "qd/bob", sha=sha)
        forge.close("acme/shop", merged.number, merged=True)
        pull.requested.append("carol")
        forge.check("acme/shop", sha, "unit", "failure")
        forge.check("acme/shop", sha, "lint", None)
        forge.status("acme/shop", sha, "old", "error")
        forge.review("acme/shop", pull.number, "bob", "CHANGES_REQUESTED", "no", comments=[("a.py", 3, "why?")])

        async def valid(path: str, kind: Any) -> Any:
            answer = await client.get(path)
            assert answer.status_code == 200
            return TypeAdapter(kind).validate_python(answer.json())

        base = "/repos/acme/shop"
        assert len(await valid(f"{base}/pulls?state=all", list[models.PullRequestSimple])) == 2
        for number in (pull.number, merged.number):
            await valid(f"{base}/pulls/{number}", models.PullRequest)
        [review] = await valid(f"{base}/pulls/{pull.number}/reviews", list[models.PullRequestReview])
        comments = f"{base}/pulls/{pull.number}/reviews/{review.id}/comments"
        assert len(await valid(comments, list[models.ReviewComment])) == 1
        runs = (await client.get(f"{base}/commits/{sha}/check-runs")).json()["check_runs"]
        assert len(TypeAdapter(list[models.CheckRun]).validate_python(runs)) == 2
        await valid(f"{base}/commits/{sha}/status", models.CombinedCommitStatus)
