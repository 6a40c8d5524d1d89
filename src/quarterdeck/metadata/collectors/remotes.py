"""Remote addresses of git: credentials taken out, and the host and repository in them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

# user@host:path, which is ssh; a path of this machine has no colon before its first slash.
_SCP = re.compile(r"(?:[^@/\s]+@)?(\[[^\]]+\]|[^:/\s]+):(?!//)(.+)\Z")


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


def parse(url: str) -> Remote | None:
    """Host and repository of an ssh or http address; None for a path, a file, or anything else."""
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
        if port is not None and parts.scheme in ("http", "https"):
            host = f"{host}:{port}"
        path = parts.path
    else:
        match = _SCP.match(url)
        if match is None:
            return None
        host, path = match[1].lower(), match[2]
    path = path.strip("/").removesuffix(".git").strip("/")
    return Remote(host, path) if "/" in path else None
