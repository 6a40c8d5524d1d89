"""Which host and repository a remote's address names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from quarterdeck.config import ForgeTable
from quarterdeck.metadata.collectors.gitlab import GitlabCollector
from quarterdeck.metadata.collectors.remotes import Remote, parse

SHOP = "acme/shop"


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("https://Git.corp/acme/shop.git", "git.corp", SHOP),
        ("https://git.corp:8443/acme/shop", "git.corp:8443", SHOP),
        ("ssh://git@git.corp:2222/acme/shop.git", "git.corp", SHOP),
        ("git@git.corp:acme/shop.git", "git.corp", SHOP),
        # ssh on port 443, for those whose network lets nothing else out
        ("ssh://git@ssh.github.com:443/acme/shop.git", "github.com", SHOP),
        ("git@ssh.github.com:acme/shop.git", "github.com", SHOP),
        ("ssh://git@altssh.gitlab.com:443/acme/shop.git", "gitlab.com", SHOP),
        ("https://ssh.github.com/acme/shop.git", "ssh.github.com", SHOP),
    ],
)
def test_an_address(url: str, host: str, path: str) -> None:
    assert parse(url) == Remote(host, path)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("url", "api", "path"),
    [
        ("https://git.corp/gitlab/acme/shop.git", "https://git.corp/gitlab/api/v4", SHOP),
        ("https://git.corp/a/b/acme/shop.git", "https://git.corp/a/b/api/v4/", SHOP),
        ("https://git.corp/gitlabs/acme/shop.git", "https://git.corp/gitlab/api/v4", "gitlabs/acme/shop"),
        ("git@git.corp:acme/shop.git", "https://git.corp/gitlab/api/v4", SHOP),
        ("git@git.corp:gitlab/acme/shop.git", "https://git.corp/gitlab/api/v4", "gitlab/acme/shop"),
        ("https://git.corp/gitlab/shop.git", "https://git.corp/api/v4", "gitlab/shop"),
        ("https://git.corp/gitlab/shop.git", "https://api.corp/gitlab/api/v4", "gitlab/shop"),
        ("https://git.corp/gitlab/shop.git", None, "gitlab/shop"),
    ],
)
async def test_a_forge_below_a_path(repo: Path, git: Callable[..., str], url: str, api: str | None, path: str) -> None:
    git(repo, "remote", "add", "origin", url)
    collector = GitlabCollector(ForgeTable(hosts=["git.corp"], api=api))
    target = await collector._target(repo)
    assert target is not None
    assert (target.repository, target.source) == (Remote("git.corp", path), Remote("git.corp", path))
