"""Names of agents: what is allowed, and how one is made up. Pure."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection

from quarterdeck.errors import InvalidInput

MAX_LENGTH = 20
_ALLOWED = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,18}[A-Za-z0-9])?")
_HINT = (
    f"a name has 1 to {MAX_LENGTH} characters: the letters A to Z and a to z, digits, and hyphens that are "
    "neither first nor last"
)


def _words(text: str) -> list[str]:
    return text.split()


_ADJECTIVES = _words(
    "able amber apt bold brave brisk bright calm clear clever cool coral cosy crisp daring deft eager early fair "
    "fast fine fleet fond fresh gentle glad golden grand green happy hardy honest jolly keen kind lively loyal lucky "
    "mellow merry mild neat nimble noble patient plucky polite prime proud quick quiet rapid ready royal sharp shiny "
    "silver smart snug solid spry steady sunny sure swift tidy trusty vivid warm wise witty zesty"
)
_ANIMALS = _words(
    "albatross auk badger beaver bison bream buzzard carp cod coot crab crane curlew dolphin dove duck eagle egret "
    "eider falcon finch fox gannet goose grebe gull hare hawk heron ibis jay kestrel kite koi lark lynx magpie marlin "
    "marten mole moth newt ocelot orca osprey otter owl oyster pelican perch petrel pike plover puffin quail rail ray "
    "raven robin salmon seal shark shrew skua snipe sole sparrow squid stork swan tern trout tuna turtle walrus whale "
    "wolf wren"
)


def check_name(name: str) -> str:
    """The name itself when an agent may have it. Raises `InvalidInput` that says what is allowed."""
    if _ALLOWED.fullmatch(name):
        return name
    if not name:
        raise InvalidInput("the name is empty", hint=_HINT)
    if len(name) > MAX_LENGTH:
        raise InvalidInput(f"the name has {len(name)} characters, {MAX_LENGTH} are allowed", hint=_HINT)
    if name.startswith("-") or name.endswith("-"):
        raise InvalidInput(f"the name {name!r} starts or ends with a hyphen", hint=_HINT)
    wrong = sorted({character for character in name if not re.fullmatch(r"[A-Za-z0-9-]", character)})
    raise InvalidInput(f"the name {name!r} has characters that are not allowed: {wrong}", hint=_HINT)


def make_name(taken: Collection[str]) -> str:
    """A short memorable name that is not taken (in whatever case, since branches may lie on such a disk)."""
    used = {name.lower() for name in taken}
    for _ in range(50):
        name = f"{secrets.choice(_ADJECTIVES)}-{secrets.choice(_ANIMALS)}"
        if name not in used:
            return name
    # Most of the plain names are gone: number one of them.
    stem, number = f"{secrets.choice(_ADJECTIVES)}-{secrets.choice(_ANIMALS)}", 2
    while f"{stem}-{number}" in used:
        number += 1
    return f"{stem}-{number}"
