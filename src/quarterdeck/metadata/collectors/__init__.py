"""The collectors that come with Quarterdeck. Each knows the `collector` module; none is needed by another part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quarterdeck.config import MetadataTable
    from quarterdeck.metadata.collector import Collector


def builtin(
    config: MetadataTable,
    workspace: Path,
    task: Callable[[], Mapping[str, Any] | None] | None,
    base: str | None,
) -> dict[str, Collector]:
    """Name to collector, for one workspace."""
    from quarterdeck.metadata.collectors.git import GitCollector
    from quarterdeck.metadata.collectors.github import GithubCollector
    from quarterdeck.metadata.collectors.gitlab import GitlabCollector
    from quarterdeck.metadata.collectors.task import TaskCollector

    found: dict[str, Collector] = {
        "git": GitCollector(base),
        "github": GithubCollector(config.github),
        "gitlab": GitlabCollector(config.gitlab),
    }
    if task is not None or config.task_file is not None:
        found["task"] = TaskCollector(task, Path(config.task_file) if config.task_file else None)
    return found
