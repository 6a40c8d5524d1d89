"""The collectors that come with Quarterdeck. Each knows the `collector` module; none is needed by another part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quarterdeck.config import MetadataTable
    from quarterdeck.metadata.collector import Collector


def builtin(base: str | None) -> dict[str, Collector]:
    """Name to collector, of those that need no configuration."""
    from quarterdeck.metadata.collectors.git import GitCollector

    return {"git": GitCollector(base)}


def builtin_keys() -> dict[str, str]:
    """Key to source, of every key that a collector of ours declares, whether it is at work here or not."""
    from quarterdeck.metadata.collectors import git, pull_request, task

    forge = dict.fromkeys(pull_request.KEYS, "github or gitlab")
    return dict.fromkeys(git.KEYS, "git") | forge | dict.fromkeys(task.KEYS, "task")


def configured(config: MetadataTable, asks_task: bool) -> dict[str, Any]:
    """Name to what is configured of it, of those that are made anew when that changes."""
    found: dict[str, Any] = {"github": config.github, "gitlab": config.gitlab}
    if asks_task or config.task_file is not None:
        found["task"] = config.task_file
    return found


def make(name: str, what: Any, task: Callable[[], Mapping[str, Any] | None] | None) -> Collector:
    """The collector that `configured` names."""
    from quarterdeck.metadata.collectors.github import GithubCollector
    from quarterdeck.metadata.collectors.gitlab import GitlabCollector
    from quarterdeck.metadata.collectors.task import TaskCollector

    if name == "task":
        return TaskCollector(task, Path(what) if what else None)
    return GithubCollector(what) if name == "github" else GitlabCollector(what)
