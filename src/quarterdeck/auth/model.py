"""Callers and roles as values, and how claims become roles. Pure."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quarterdeck.errors import PermissionDenied, Unauthenticated


class Role(enum.IntEnum):
    """What a caller may do; a higher one includes the lower ones."""

    NOBODY = 0
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @classmethod
    def named(cls, name: str) -> Role:
        """The role of this name. Raises `ValueError` when there is none."""
        try:
            return cls[name.upper()]
        except KeyError:
            raise ValueError(f"{name!r} is no role; there are {', '.join(r.label for r in cls)}") from None

    @property
    def label(self) -> str:
        """The role as it is written in files and on the wire."""
        return self.name.lower()


@dataclass(frozen=True)
class Identity:
    """A caller whose token was found valid.

    `expires_at` is in seconds since the epoch, None when the token does not tell. `issuer` names who
    vouches for the caller: an OIDC issuer, an introspection service, or `local:NODE`.
    """

    subject: str
    role: Role
    issuer: str
    expires_at: float | None = None

    def must_be(self, needed: Role) -> None:
        """Raises `PermissionDenied` when the caller's role is below the needed one."""
        if self.role < needed:
            raise PermissionDenied(
                f"{self.subject} is {self.role.label}, this needs {needed.label}; nothing was changed",
                hint="ask whoever runs this node, or `qd login` as somebody else",
            )


@dataclass(frozen=True)
class RoleRules:
    """How the claims of a token become a role.

    `claim` is the path of a claim, with dots between its parts (`realm_access.roles`); its value is a
    list of strings or one string with spaces (as `scope` is). `roles` maps values to roles; the highest
    that is met counts, without one it is `default`.
    """

    claim: str
    roles: Mapping[str, Role]
    default: Role = Role.NOBODY

    def role_of(self, claims: Mapping[str, Any]) -> Role:
        """The role that these claims give."""
        value: Any = claims
        for part in self.claim.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, str):
            held: Sequence[Any] = value.split()
        elif isinstance(value, Sequence):
            held = value
        else:
            held = ()
        return max((self.roles[v] for v in held if isinstance(v, str) and v in self.roles), default=self.default)


def token_key(token: str) -> bytes:
    """What stands for a token wherever it must not be kept: its SHA-256."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def bearer_token(header: str | None) -> str:
    """The token of an `Authorization` header. Raises `Unauthenticated` when there is none."""
    scheme, _, token = (header or "").strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("a bearer token is needed; nothing was done", hint="`qd login` gets one")
    if len(token) > 16_384 or not token.isascii() or not token.isprintable():
        raise Unauthenticated("this cannot be a token; nothing was done", hint="`qd login` gets one")
    return token
