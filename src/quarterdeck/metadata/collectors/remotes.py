"""Remote addresses of git: credentials taken out, and the host and repository in them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlsplit

# user@host:path, which is ssh; a path of this machine has no colon before its first slash.
_SCP = re.compile(r"(?:[^@/\s]+@)?(\[[^\]]+\]|[^:/\s]+):(?!//)(.+)\Z")

# Where the public forges take ssh on port 443, for those whose network lets nothing else out.
_SSH_HOSTS = {"ssh.github.com": "github.com", "altssh.gitlab.com": "gitlab.com"}
_NOWHERE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Remote:
    """Where a remote is: its host (with port when http has one), and the repository's path on it."""

    host: str
    path: str

    @property
    def owner(self) -> str:
        """All but the last part of the path (GitLab has groups in groups)."""
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


def without_credentials(url: str) -> str:
    """The address without user names, passwords, tokens and query."""
    if "://" in url:
        scheme, _, rest = url.partition("://")
        authority, slash, path = rest.partition("/")
        authority = authority.rpartition("@")[2]
        path = path.partition("?")[0].partition("#")[0]
        return f"{scheme}://{authority}{slash}{path}"
    user, at, rest = url.partition("@")
    # git@host:path needs its user to work, and it is no secret; anything with a colon in it may be one.
    return rest if at and ":" in user else url


def parse(url: str, below: Mapping[str, str] = _NOWHERE) -> Remote | None:
    """Host and repository of an ssh or http address; None for a path, a file, or anything else.

    `below` is the path by host below which its web server has the repositories; ssh knows nothing of it.
    """
    web = False
    if "://" in url:
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port
        except ValueError:
            return None
        if parts.scheme not in ("http", "https", "ssh", "git", "git+ssh") or not host:
            return None
        if ":" in host:
            host = f"[{host}]"
        # The port of ssh says nothing about the web server's.
        web = parts.scheme in ("http", "https")
        if port is not None and web:
            host = f"{host}:{port}"
        path = parts.path
    else:
        match = _SCP.match(url)
        if match is None:
            return None
        host, path = match[1].lower(), match[2]
    path = path.strip("/").removesuffix(".git").strip("/")
    if web:
        prefix = below.get(host, "").strip("/")
        path = path.removeprefix(f"{prefix}/").strip("/") if prefix else path
    else:
        host = _SSH_HOSTS.get(host, host)
    return Remote(host, path) if "/" in path else None
