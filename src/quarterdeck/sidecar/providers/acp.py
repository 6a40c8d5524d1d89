"""Any agent that speaks ACP v1 (Agent Client Protocol) over standard input and output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import anyio
from anyio.abc import TaskGroup

from quarterdeck import __version__
from quarterdeck.errors import Unavailable
from quarterdeck.sidecar.ports import (
    Accepted,
    Answer,
    Emit,
    Exited,
    Launch,
    Noise,
    Opened,
    Outcome,
    ResumeRefused,
    Started,
    TurnEnded,
)
from quarterdeck.sidecar.providers.acp_requests import Requests
from quarterdeck.sidecar.providers.acp_updates import NOT_OF_A_TURN, UpdateReader, outcome_of, shown
from quarterdeck.sidecar.providers.acp_wire import (
    AUTH_REQUIRED,
    INVALID_PARAMS,
    AgentGone,
    Message,
    RequestRefused,
    Wire,
    error_text,
    initialize_params,
    prompt_params,
    session_params,
)
from quarterdeck.sidecar.providers.program import SHOWN_NOISE, Program

_INSTRUCTED_FILE = "instructed-session"


@dataclass
class _Turn:
    id: str
    request_id: str
    received: bool = False
    cancelled: bool = False


class AcpProvider:
    """One ACP agent process with one session."""

    def __init__(self) -> None:
        self._launch: Launch
        self._emit: Emit
        self._tasks: TaskGroup
        self._program: Program | None = None
        self._wire: Wire
        self._reader = UpdateReader()
        self._session_id = ""
        self._turn: _Turn | None = None
        self._turns = 0
        self._requests: Requests
        self._opened = False
        self._closing = False
        self._replaying = False
        self._exit: Exited | None = None
        self._auth_methods: list[str] = []

    async def start(self, launch: Launch, emit: Emit, tasks: TaskGroup) -> Opened:
        """See `Provider.start`."""
        return await self._bring_up(launch, emit, tasks, None)

    async def resume(self, launch: Launch, session_id: str, emit: Emit, tasks: TaskGroup) -> Opened:
        """See `Provider.resume`: session/resume where the agent has it, else session/load without its replay."""
        return await self._bring_up(launch, emit, tasks, session_id)

    async def _bring_up(self, launch: Launch, emit: Emit, tasks: TaskGroup, session_id: str | None) -> Opened:
        self._launch, self._emit, self._tasks = launch, emit, tasks
        self._program = program = await Program.start(launch, launch.command)
        self._wire = Wire(program, self._on_message, self._emit_noise)
        self._requests = Requests(launch, tasks, self._say, self._try_send)
        tasks.start_soon(program.serve, self._wire.line, self._emit_noise, self._on_exit, name="acp reader")
        try:
            with anyio.fail_after(launch.start_seconds):
                await self._wire.connect()
                opened = await self._handshake(session_id)
            self._opened = True
            return opened
        except TimeoutError as error:
            raise Unavailable(
                f"the agent did not come up within {launch.start_seconds:g} s and was ended",
                hint=program.last_words() or "a longer time: [agents] start_seconds",
            ) from error
        except AgentGone as error:
            await program.exited.wait()
            code = self._exit.returncode if self._exit else None
            words = program.last_words()
            raise Unavailable(f"the agent ended at its start with {code}: {words}", hint="qd doctor") from error
        except RequestRefused as error:
            raise self._refused(error) from error
        finally:
            if not self._opened:
                await self.close(0)

    async def _handshake(self, session_id: str | None) -> Opened:
        hello = await self._wire.request("initialize", initialize_params(__version__))
        if (version := hello.get("protocolVersion")) != 1:
            raise Unavailable(
                f"the agent speaks ACP version {version!r}, and we speak 1", hint="install a version that speaks 1"
            )
        able = _table(hello, "agentCapabilities")
        self._auth_methods = [
            str(method.get("name") or method.get("id"))
            for method in hello.get("authMethods") or []
            if isinstance(method, Mapping)
        ]
        if session_id is None:
            answer = await self._wire.request("session/new", session_params(str(self._launch.cwd), self._launch.mcp))
            self._session_id = str(answer.get("sessionId", ""))
        else:
            await self._take_up(session_id, able)
        about = _table(hello, "agentInfo")
        named = f"{about.get('title') or about.get('name') or ''} {about.get('version') or ''}".strip()
        return Opened(self._session_id, self._program.pid if self._program else None, version=named)

    async def _take_up(self, session_id: str, able: Mapping[str, Any]) -> None:
        methods: list[str] = []
        if _table(able, "sessionCapabilities").get("resume") is not None:
            methods.append("session/resume")
        if able.get("loadSession"):
            methods.append("session/load")
        reasons: list[str] = []
        # Until the next prompt everything said is history, which was told when it happened.
        self._replaying = True
        for method in methods:
            try:
                await self._wire.request(method, session_params(str(self._launch.cwd), self._launch.mcp, session_id))
            except RequestRefused as error:
                if error.code == AUTH_REQUIRED:
                    raise
                reasons.append(f"{method}: {error.message}")
            else:
                self._session_id = session_id
                return
        why = "; ".join(reasons) or "it can neither resume nor load sessions"
        raise ResumeRefused(f"the agent did not take up its session: {why}", hint="it goes on in a new session")

    def _refused(self, error: RequestRefused) -> Unavailable:
        if _is_auth_error(error.code, error.message):
            return Unavailable(f"the agent is not logged in: {error.message}", hint=self._auth_hint())
        return Unavailable(f"the agent refused a session: {error.message}", hint="qd doctor")

    def _auth_hint(self) -> str:
        ways = f" ({', '.join(self._auth_methods)})" if self._auth_methods else ""
        return (
            f"log in with the agent's own program{ways}, or name its key in the provider's pass_env and set it "
            "where the hub starts"
        )

    # --- turns -------------------------------------------------------------------------------------

    async def prompt(self, turn_id: str, text: str) -> None:
        """See `Provider.prompt`."""
        self._turns += 1
        blocks = [*self._instructions(), text]
        self._replaying = False
        self._reader.new_turn(turn_id)
        # The id is a string of ours, so that the answer is seen in its place among the updates.
        self._turn = _Turn(turn_id, f"turn-{self._turns}")
        params = prompt_params(self._session_id, blocks, turn_id)
        try:
            await self._wire.send({"id": self._turn.request_id, "method": "session/prompt", "params": params})
        except BaseException:
            self._turn = None
            raise
        if len(blocks) > 1:
            self._were_instructed()

    def _instructions(self) -> list[str]:
        """The role's prompt and the spec, once per session: also when it was resumed before its first prompt."""
        if not self._launch.instructions:
            return []
        try:
            known = (self._launch.folder / _INSTRUCTED_FILE).read_text() == self._session_id
        except OSError:
            known = False
        return [] if known else [self._launch.instructions]

    def _were_instructed(self) -> None:
        """After they went out: with a prompt that did not reach the agent, they did not either."""
        try:
            (self._launch.folder / _INSTRUCTED_FILE).write_text(self._session_id)
        except OSError as error:
            self._say(Noise(f"the instructions will be given once more: {error}"))

    async def cancel(self) -> None:
        """See `Provider.cancel`. Open requests are answered `cancelled`, as the protocol asks for."""
        if self._turn is None or self._turn.cancelled:
            return
        self._turn.cancelled = True
        await self._wire.send({"method": "session/cancel", "params": {"sessionId": self._session_id}})
        await self._requests.cancel()

    def check_answer(self, request_id: str, answer: Answer) -> None:
        """See `Provider.check_answer`."""
        self._requests.check_answer(request_id, answer)

    async def answer(self, request_id: str, answer: Answer) -> None:
        """See `Provider.answer`."""
        await self._requests.answer(request_id, answer)

    async def close(self, grace_seconds: float = 5) -> None:
        """See `Provider.close`; nothing is emitted from here on."""
        self._closing = True
        if self._program is not None:
            await self._program.stop(grace_seconds)
            with anyio.CancelScope(shield=True):
                await self._wire.close()

    # --- what the agent says -----------------------------------------------------------------------

    def _say(self, update: Any) -> None:
        if not self._closing:
            self._emit(update)

    def _emit_noise(self, noise: Noise) -> None:
        self._say(noise)

    def _on_exit(self, exited: Exited) -> None:
        self._exit = exited
        self._turn = None
        if self._opened:
            self._requests.withdraw()
        self._wire.end()
        if self._opened:
            self._say(exited)

    def _on_message(self, message: Message) -> None:
        try:
            self._take(message)
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            self._say(Noise(f"a message that cannot be read ({error}): {shown(message)[:SHOWN_NOISE]}"))
            if "method" in message and "id" in message:
                refusal = {"code": INVALID_PARAMS, "message": str(error)}
                self._tasks.start_soon(self._try_send, {"id": message["id"], "error": refusal})

    def _take(self, message: Message) -> None:
        method, number = message.get("method"), message.get("id")
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        if method is None:
            if self._turn is not None and number == self._turn.request_id:
                self._end_turn(self._turn, message)
        elif method == "session/update":
            update = params.get("update")
            self._on_update(update if isinstance(update, dict) else {})
        elif number is None and str(method).startswith(("_", "$/")):
            return  # an extension, which the protocol allows and whoever does not know it ignores
        elif number is None:
            self._say(Noise(f"unknown notification {str(method)[:SHOWN_NOISE]}"))
        else:
            self._receipt()
            cancelled = self._turn is not None and self._turn.cancelled
            self._requests.handle(str(method), number, params, cancelled=cancelled)

    def _on_update(self, update: Message) -> None:
        kind = str(update.get("sessionUpdate"))
        if self._replaying:
            # Not told again, but read: what was spent before is not spent again.
            list(self._reader.read(update))
            return
        if self._turn is None and kind not in NOT_OF_A_TURN:
            self._say(Noise(f"said between two turns: {shown(update)[:SHOWN_NOISE]}"))
            return
        if kind not in NOT_OF_A_TURN:
            self._receipt()
        for ours in self._reader.read(update):
            self._say(ours)

    def _receipt(self) -> None:
        """ACP has no receipt of its own: the first thing said in a turn proves that it is worked on."""
        if self._turn is not None and not self._turn.received:
            self._turn.received = True
            self._say(Accepted(self._turn.id))
            self._say(Started(self._turn.id))

    def _end_turn(self, turn: _Turn, message: Message) -> None:
        self._receipt()
        self._turn = None
        self._requests.withdraw()
        result, error = message.get("result"), message.get("error")
        outcome: Outcome
        if isinstance(error, Mapping):
            outcome, detail = "failed", error_text(error)
            if _is_auth_error(error.get("code"), detail):
                detail = f"the agent is not logged in: {detail}; {self._auth_hint()}"
            if turn.cancelled:
                outcome = "canceled"
        else:
            result = result if isinstance(result, dict) else {}
            if (usage := self._reader.turn_usage(result)) is not None:
                self._say(usage)
            outcome, detail = outcome_of(result.get("stopReason"))
        self._say(TurnEnded(turn.id, outcome, detail))

    async def _try_send(self, message: Message) -> None:
        try:
            await self._wire.send(message)
        except Unavailable:
            # Its end is told by `Exited`; there is nobody left to answer.
            return


def _is_auth_error(code: Any, message: str) -> bool:
    """The protocol has a code for it, but some agents hand on what their model's API said (HTTP 401)."""
    return code == AUTH_REQUIRED or "401" in message.split()


def _table(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = source.get(key)
    return cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else {}
