"""What one agent answered, and agents found by their facts. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

from quarterdeck.errors import InvalidInput

State = Literal["known", "none", "starting", "unreachable"]


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What one agent answered.

    `state` says whether it has facts (`known`, `none`) or cannot tell (`starting`, `unreachable`, with
    `error` saying why). `clock_off_seconds` is set when its clock differs from ours by more than
    a tolerance (positive: it is ahead); ages are its own differences and stay right. `ended` means that it
    does not answer because it was stopped or failed: nothing is done by it until somebody starts it again.
    """

    agent: str
    state: State
    ended: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    clock_off_seconds: float | None = None
    took_seconds: float = 0.0

    def value(self, key: str) -> Any:
        """The value of a key, None when there is none."""
        entry = self.data.get(key)
        return entry.get("value") if isinstance(entry, Mapping) else None

    @property
    def values(self) -> dict[str, Any]:
        """Key to value."""
        return {key: self.value(key) for key in self.data}

    def unknown(self, key: str) -> str | None:
        """Why a fact is not known that its collector could not get; None when it is known, or was never collected."""
        entry = self.data.get(key)
        if not isinstance(entry, Mapping) or entry.get("value") is not None or not entry.get("error"):
            return None
        return str(entry["error"])


@dataclass(frozen=True, kw_only=True)
class AgentState:
    """An agent whose facts are not known, and why: it cannot be asked (`none`, `starting`, `unreachable`), or it could
    not collect them (`not_collected`).
    """

    agent: str
    state: str
    error: str | None
    clock_off_seconds: float | None


def not_known(gathered: Gathered, keys: Iterable[str]) -> AgentState | None:
    """Why one of these facts of an agent is not known; None when all are."""
    state, error = str(gathered.state), gathered.error
    if gathered.state == "known":
        state = "not_collected"
        error = next((why for key in keys if (why := gathered.unknown(key)) is not None), None)
        if error is None:
            return None
    return AgentState(agent=gathered.agent, state=state, error=error, clock_off_seconds=gathered.clock_off_seconds)


# -------------------------------------------------------------------- finding agents by their facts

_TERM = re.compile(
    r"""\s*(?P<not>!)?(?P<key>[A-Za-z0-9][A-Za-z0-9._/-]*)\s*
        (?:(?P<op>!=|>=|<=|=|>|<)\s*(?P<value>"(?:[^"\\]|\\.)*"|[^,"]*?))?\s*(?:,|\Z)""",
    re.VERBOSE,
)
HINT = "KEY=VALUE, KEY!=VALUE, KEY>NUMBER, KEY (is set) or !KEY, joined by commas; * in VALUE stands for anything"


@dataclass(frozen=True)
class Term:
    """One condition of a filter. `op` None: the key is set, and neither null nor false."""

    key: str
    op: Literal["=", "!=", ">", ">=", "<", "<="] | None = None
    value: str = ""
    negated: bool = False


@dataclass(frozen=True)
class MetadataFilter:
    """Conditions that must all be met."""

    terms: tuple[Term, ...]

    def matches(self, values: Mapping[str, Any]) -> bool:
        """Whether an agent with these facts (key to value) is one of those that are looked for."""
        return all(_meets(term, values.get(term.key)) for term in self.terms)

    def split(self, fleet: Sequence[Gathered]) -> tuple[set[str], list[AgentState]]:
        """The names of those that it finds, and those of which nobody can say: what is asked for is not known of them,
        and what is known does not rule them out.
        """
        found: set[str] = set()
        open_: list[AgentState] = []
        for gathered in fleet:
            terms = [t for t in self.terms if gathered.state == "known" and gathered.unknown(t.key) is None]
            if not all(_meets(term, gathered.value(term.key)) for term in terms):
                continue
            unknown = not_known(gathered, (term.key for term in self.terms))
            if unknown is None:
                found.add(gathered.agent)
            else:
                open_.append(unknown)
        return found, open_


def parse_filter(text: str) -> MetadataFilter:
    """A filter such as `pull_request_number=123,git_branch=qd/*`. Raises `InvalidInput`."""
    terms: list[Term] = []
    position = 0
    while position < len(text) or not terms:
        match = _TERM.match(text, position)
        if match is None or match.end() == position or (match["not"] and match["op"]):
            raise InvalidInput(f"the filter {text!r} cannot be read at character {position + 1}", hint=HINT)
        value = match["value"] or ""
        if value.startswith('"'):
            try:
                value = str(msgspec.json.decode(value))
            except msgspec.DecodeError:
                raise InvalidInput(f"{value} in the filter is not a JSON string", hint=HINT) from None
        op: Any = match["op"]
        if op in (">", ">=", "<", "<=") and _number(value) is None:
            raise InvalidInput(f"{value!r} in the filter is not a number, which {op} needs", hint=HINT)
        terms.append(Term(match["key"], op, value, bool(match["not"])))
        position = match.end()
    return MetadataFilter(tuple(terms))


def _meets(term: Term, value: Any) -> bool:
    if term.op is None:
        return (value is not None and value is not False) != term.negated
    if term.op == "=":
        return _same(value, term.value)
    if term.op == "!=":
        return not _same(value, term.value)
    wanted = _number(term.value)
    given = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if given is None or wanted is None:
        return False
    return {">": given > wanted, ">=": given >= wanted, "<": given < wanted, "<=": given <= wanted}[term.op]


def _same(value: Any, text: str) -> bool:
    if isinstance(value, str):
        return fnmatchcase(value, text.replace("[", "[[]").replace("?", "[?]"))
    if isinstance(value, list):
        return any(_same(item, text) for item in value)
    number = _number(text)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number is not None and value == number
    return msgspec.json.encode(value).decode() == text


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
