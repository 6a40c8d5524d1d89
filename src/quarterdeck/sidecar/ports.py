"""What the session needs of an AI program: `Provider`, shaped like ACP v1, and the updates it gives.

The contract (tests/contracts/test_providers.py holds every provider to it):

* `start` or `resume` is called once, then any number of `prompt`s, one at a time, then `close`.
* Everything the program says arrives as an `Update`, in order, through the `emit` that was given at the
  start; `emit` never blocks and never raises.
* A turn is opened by `prompt(turn_id, ...)` and gives exactly one `TurnEnded` with that id, or, when the
  program dies, one `Exited`; whichever comes first ends it and nothing of that turn follows.
* `Accepted` and `Started` come from the program's own protocol, never from having written to a pipe: at
  the latest before the first other update of the turn, and before its `TurnEnded`.
* After `Exited` the provider is dead: only `close` may follow.
* Garbage, over-long lines and unknown messages of the program become `Noise` and are survived.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from anyio.abc import TaskGroup

from quarterdeck.cgroup import Cgroup
from quarterdeck.config import Permissions
from quarterdeck.errors import Unavailable

ToolStatus = Literal["pending", "in_progress", "completed", "failed"]
Outcome = Literal["succeeded", "failed", "canceled"]
MAX_LINE_BYTES = 4 * 1024 * 1024


class ResumeRefused(Unavailable):
    """The program cannot take up that session again (or never can); a new one must be started."""


class PromptRefused(Unavailable):
    """This prompt cannot be given to the program, and trying again would not help; nothing of it was begun."""


@dataclass(frozen=True, slots=True)
class McpServer:
    """The sidecar's own MCP server, as it is handed to the program: a stdio command with its environment."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Launch:
    """All that a provider needs to start its program.

    `command` is the program with its fixed arguments, `env` the whole environment it gets, `folder` the
    agent's own folder for configuration files (mode 0600) and logs, `instructions` the role's prompt and
    the agent's spec, which must reach the model. `mark` and `cgroup` are for `process.Child.start`.
    """

    agent: str
    cwd: Path
    folder: Path
    command: tuple[str, ...]
    env: Mapping[str, str]
    instructions: str = ""
    permissions: Permissions = "ask"
    output: Literal["plain", "jsonl"] = "plain"
    mcp: McpServer | None = None
    mark: str | None = None
    cgroup: Cgroup | None = None
    start_seconds: float = 120


@dataclass(frozen=True, slots=True)
class Accepted:
    """The program's protocol confirmed that it has the prompt."""

    turn_id: str


@dataclass(frozen=True, slots=True)
class Started:
    """The program's protocol confirmed that it works on the prompt."""

    turn_id: str


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of what the model says (`thought`: of what it thinks); pieces of one message share `message_id`."""

    message_id: str
    text: str
    thought: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call or a change of one; fields left None keep what was said before of the same `call_id`."""

    call_id: str
    status: ToolStatus | None = None
    title: str | None = None
    kind: str | None = None
    input: str | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The program's whole plan: (text, status) with status pending, in_progress or completed."""

    entries: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Option:
    """One way to answer; `kind` is ACP's: allow_once, allow_always, reject_once, reject_always, or choice."""

    id: str
    name: str
    kind: str = "choice"


@dataclass(frozen=True, slots=True)
class Permission:
    """The program asks whether it may do something; it waits for `answer`."""

    request_id: str
    title: str
    detail: str = ""
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """The program asks something in words; without `options` any text is an answer.

    `free_text`: it takes any words beside the options, too. `multiple`: several options may be chosen.
    """

    request_id: str
    text: str
    options: tuple[Option, ...] = ()
    free_text: bool = False
    multiple: bool = False


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A permission request or a question is no longer open (the program gave up waiting, the turn ended)."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used since the last `Usage` of this incarnation: increments, whatever the program counts.

    `cost_usd` is None where the program does not tell. `context_used` and `context_size` are levels.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    context_used: int | None = None
    context_size: int | None = None


@dataclass(frozen=True, slots=True)
class State:
    """The program's own word on what it does: working, or waiting to try its model again."""

    activity: Literal["working", "retrying"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Noise:
    """What the program said outside its protocol (cut to a reasonable length); logged and survived."""

    text: str


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The turn is over by the program's own word; `detail` says why it failed, or its last words."""

    turn_id: str
    outcome: Outcome
    detail: str = ""
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Exited:
    """The program is gone. `returncode` is negative for a signal; `detail` the end of its standard error."""

    returncode: int | None
    detail: str = ""


Update = (
    Accepted | Started | Text | ToolCall | Plan | Permission | Question | Withdrawn | Usage | State | Noise
    | TurnEnded | Exited
)  # fmt: skip
Emit = Callable[[Update], None]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a permission request or a question: an option's id, or free text; or it is declined.

    `option_ids` are several options of a question that takes them.
    """

    option_id: str | None = None
    text: str | None = None
    declined: bool = False
    option_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that is ready for a prompt.

    `pid` is the program's, None for one that runs only during a turn. `notes` are told to the user
    (a version, something that is not supported).
    """

    session_id: str
    pid: int | None
    version: str = ""
    notes: tuple[str, ...] = field(default=())


class Provider(Protocol):
    """Drives one AI program through its own protocol. See the module's text for the contract."""

    async def start(self, launch: Launch, emit: Emit, tasks: TaskGroup) -> Opened:
        """Start the program with a new session; background readers go into `tasks`.

        Raises `Unavailable` (with a hint how to install it) when the program is missing, `Unavailable`
        when it does not come up within `launch.start_seconds`; nothing of it is left then.
        """
        ...

    async def resume(self, launch: Launch, session_id: str, emit: Emit, tasks: TaskGroup) -> Opened:
        """Start the program and take up a session of an earlier process; nothing is prompted.

        Raises `ResumeRefused` when it cannot, and as `start`; nothing of it is left then.
        """
        ...

    async def prompt(self, turn_id: str, text: str) -> None:
        """Open a turn. Returns when the prompt is on its way; receipts and the end come as updates.

        Raises `Unavailable` when the program cannot be reached, `PromptRefused` when it never takes this
        prompt but lives on; the turn was not opened then.
        """
        ...

    async def cancel(self) -> None:
        """Interrupt the open turn in the program's own protocol; its `TurnEnded` follows, if it obeys."""
        ...

    def check_answer(self, request_id: str, answer: Answer) -> None:
        """Whether `answer` would take this; nothing is changed or sent.

        Raises `NotFound` when it is not open, `InvalidInput` (with a hint what it takes) for what is no answer to it.
        """
        ...

    async def answer(self, request_id: str, answer: Answer) -> None:
        """Answer an open permission request or question. Raises as `check_answer`; it stays open then."""
        ...

    async def close(self, grace_seconds: float = 5) -> None:
        """End the program and everything it started: SIGTERM, after the grace SIGKILL. Never raises; idempotent."""
        ...
