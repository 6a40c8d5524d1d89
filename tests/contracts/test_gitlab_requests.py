"""Merge requests as GitLab tells of them: whose commit a pipeline is of, and what one request for changes is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from gitlab_forge import GitlabForge, scripted_gitlab

from quarterdeck.config import ForgeTable
from quarterdeck.metadata.collectors.gitlab import GitlabCollector

pytestmark = pytest.mark.anyio
REPOSITORY = "acme/shop"
OLD = "1" * 40


class Merge:
    """A merge request on a running GitLab, and its branch's work tree."""

    def __init__(self, forge: GitlabForge, workspace: Path, head: str) -> None:
        self.forge = forge
        self.head = head
        self.pull = forge.open_pull(REPOSITORY, "qd/alice", sha=head)
        self._workspace = workspace

    async def facts(self) -> dict[str, Any]:
        """The facts, asked for by somebody who knows nothing yet."""
        host, api = self.forge.url.partition("://")[2], self.forge.url + "/api/v4"
        table = ForgeTable(hosts=[host], api=api, token_env=["QD_TEST_FORGE_TOKEN"], interval=0.001)
        collector = GitlabCollector(table)
        try:
            found: Any = await collector.collect(self._workspace)
        finally:
            await collector.aclose()
        return {key: known.value for key, known in found.items()}

    async def asked(self) -> list[dict[str, Any]]:
        """The requests for changes."""
        asked: list[dict[str, Any]] = (await self.facts())["pull_request_change_requests"]
        return asked


@pytest.fixture
async def merge(
    repo: Path, git: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Merge]:
    monkeypatch.setenv("QD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("QD_TEST_FORGE_TOKEN", "a-token-of-the-forge-123")
    async with scripted_gitlab() as forge:
        git(repo, "checkout", "-q", "-b", "qd/alice")
        git(repo, "remote", "add", "origin", forge.remote(REPOSITORY))
        yield Merge(forge, repo, git(repo, "rev-parse", "HEAD"))


@pytest.mark.parametrize("ref", ["qd/alice", "refs/merge-requests/1/head"])
async def test_checks_of_an_older_commit_are_not_those_of_the_head(merge: Merge, ref: str) -> None:
    merge.forge.check(REPOSITORY, OLD, "unit", "failure")
    merge.forge.pipelines[merge.pull.number] = (OLD, ref)
    facts = await merge.facts()
    assert facts["pull_request_head"] == merge.head
    assert (facts["pull_request_check_status"], facts["pull_request_failing_checks"]) == ("pending", [])


async def test_a_pipeline_of_the_merged_result_counts_though_its_commit_is_another(merge: Merge) -> None:
    merge.forge.check(REPOSITORY, OLD, "unit", "failure")
    merge.forge.pipelines[merge.pull.number] = (OLD, "refs/merge-requests/1/merge")
    facts = await merge.facts()
    assert facts["pull_request_check_status"] == "failing"
    assert [check["name"] for check in facts["pull_request_failing_checks"]] == ["unit"]


async def test_what_a_reviewer_says_later_is_no_new_request(merge: Merge) -> None:
    number, forge = merge.pull.number, merge.forge
    forge.say(REPOSITORY, number, "bob", "looks at it tomorrow", at="2025-12-30T00:00:00.000Z")
    forge.say(REPOSITORY, number, "bob", "a.py:7::a set, please")
    forge.review(REPOSITORY, number, "bob", "CHANGES_REQUESTED", "one thing")
    [first] = await merge.asked()
    assert first["text"] == "a.py:7: a set, please\n\none thing"
    for n in range(120):  # more than a page
        forge.say(REPOSITORY, number, "bob", f"ping {n}", at="2026-01-02T00:00:00.000Z")
    assert await merge.asked() == [first]
    # Asked for again, that is something new; also when nothing is said with it.
    forge.review(REPOSITORY, number, "bob", "CHANGES_REQUESTED")
    [second] = await merge.asked()
    assert second["id"] != first["id"]


async def test_a_request_that_no_note_tells_of_is_one_per_commit(merge: Merge) -> None:
    """A GitLab that writes no such note, or wrote it long ago."""
    number, forge = merge.pull.number, merge.forge
    forge.review(REPOSITORY, number, "bob", "CHANGES_REQUESTED", "one thing")
    forge.notes[number] = [note for note in forge.notes[number] if not note["system"]]
    [first] = await merge.asked()
    forge.say(REPOSITORY, number, "bob", "ping")
    [after] = await merge.asked()
    assert after["id"] == first["id"]
    merge.pull.sha = "2" * 40
    [later] = await merge.asked()
    assert later["id"] != first["id"]
