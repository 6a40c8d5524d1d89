"""Configuration: the one place that reads the environment and the configuration files.

Two sources, documented in docs/configuration.md (a test compares): `quarterdeck.toml` in the project's
folder, for what the project decides, and `QD_*` variables, for what the machine decides. Unknown keys
are errors that name the file and the key. Sizes are in MB (10^6 bytes), times in seconds.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
import platformdirs

from quarterdeck.errors import InvalidInput
from quarterdeck.files import read_regular

FILE_NAME = "quarterdeck.toml"
MAX_FILE_BYTES = 1024 * 1024
ProviderKind = Literal["acp", "claude-code", "command"]
Permissions = Literal["ask", "edits", "allow"]
T = TypeVar("T")
Seconds = Annotated[float, msgspec.Meta(gt=0)]

# What every process needs to work at all, and nothing that could be a secret.
_BASE_VARIABLES = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR",
    "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "PYTHONDONTWRITEBYTECODE", "CONTAINERS_CONF", "IS_SANDBOX",
)  # fmt: skip


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file; an unknown key in it is an error."""


class HubTable(_Table, frozen=True):
    """`[hub]`: where the hub listens. Loopback only, until accounts come."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 7400


class LimitsTable(_Table, frozen=True):
    """`[limits]`: what is checked before an agent starts or a task runs."""

    busy_agents: Annotated[int, msgspec.Meta(ge=1)] = 20
    free_memory_mb: Annotated[int, msgspec.Meta(ge=0)] = 512
    free_disk_mb: Annotated[int, msgspec.Meta(ge=0)] = 1024
    task_bytes: Annotated[int, msgspec.Meta(ge=1)] = 1_000_000


class Budget(_Table, frozen=True):
    """`[agents.budget]`: what one agent may use before it is stopped; None is no limit."""

    usd: Annotated[float, msgspec.Meta(gt=0)] | None = None
    tokens: Annotated[int, msgspec.Meta(gt=0)] | None = None


class Watchdog(_Table, frozen=True):
    """`[agents.watchdog]`: after how much silence a busy agent is called stuck, and what is done then."""

    silent_seconds: Seconds = 300
    tool_seconds: Seconds = 1800
    attention_seconds: Seconds = 86400
    cancel: bool = False


class AgentsTable(_Table, frozen=True):
    """`[agents]`: how agents are run, unless a project says otherwise."""

    provider: str = "claude-code"
    permissions: Permissions = "ask"
    restart: Literal["never", "always"] = "never"
    start_seconds: Seconds = 120
    cancel_seconds: Seconds = 5
    budget: Budget = Budget()
    watchdog: Watchdog = Watchdog()


class ProviderTable(_Table, frozen=True):
    """`[providers.NAME]`: one way to run an AI program.

    `command` is an argument list. For kind `command`, an argument that is `{prompt}` is replaced by the
    prompt; without one, the prompt is on standard input. `pass_env` names variables that are handed on
    from the environment of the hub (keys of the model's API); `env` gives values.
    """

    kind: ProviderKind
    command: list[str] = []
    output: Literal["plain", "jsonl"] = "plain"
    env: dict[str, str] = {}
    pass_env: list[str] = []
    install: str = ""


class RoleTable(_Table, frozen=True):
    """`[roles.NAME]`: what an agent is for. The prompt is put before its first task."""

    description: str = ""
    prompt: str = ""


class ProjectTable(_Table, frozen=True):
    """`[projects.NAME]`: a git repository in which agents work.

    `repo` is a path, relative to the file's folder; `base` the branch that work starts from and goes
    home to (default: the one that is checked out); `check` an argument list that must exit 0 before
    work is merged.
    """

    repo: str = "."
    base: str | None = None
    provider: str | None = None
    permissions: Permissions | None = None
    env: dict[str, str] = {}
    check: list[str] = []
    check_seconds: Seconds = 600
    roles: dict[str, RoleTable] = {}


class FieldTable(_Table, frozen=True):
    """`[metadata.fields.NAME]`: a fact that a command tells about the workspace.

    `format`: what it prints is `text`, or `json`, or (`auto`) JSON where nothing is lost by taking it as such.
    """

    run: list[str]
    description: str = ""
    include_in_list: bool = False
    timeout: Seconds = 5
    interval: Seconds = 60
    format: Literal["auto", "text", "json"] = "auto"


class ForgeTable(_Table, frozen=True):
    """`[metadata.github]` and `[metadata.gitlab]`: where pull and merge requests are asked for.

    `hosts` are self-hosted ones beside the public one (as in remote addresses, with the port of http
    ones). `api` is the API's address when it is not the usual one. The token is in `token_file` (relative
    to the file's folder), or in the first variable of `token_env` that is set. These three are those of
    `hosts`, and of the public host only without `hosts`: the public host's token, in the usual variables,
    never goes to another host. `interval` is how old an answer may become.
    """

    hosts: list[str] = []
    api: str | None = None
    token_env: list[str] | None = None
    token_file: str | None = None
    interval: Seconds = 30

    def __post_init__(self) -> None:
        if self.api is not None and not _is_address(self.api):
            raise ValueError(f"api = {self.api!r} is no http or https address")


# Where the public hosts' tokens are, unless the configuration says otherwise.
FORGE_VARIABLES: dict[str, tuple[str, ...]] = {"github": ("GITHUB_TOKEN", "GH_TOKEN"), "gitlab": ("GITLAB_TOKEN",)}


class MetadataTable(_Table, frozen=True):
    """`[metadata]`: what is collected beside the built-in facts. `task_file` is relative to the workspace."""

    fields: dict[str, FieldTable] = {}
    task_file: str | None = None
    github: ForgeTable = ForgeTable()
    gitlab: ForgeTable = ForgeTable()

    def token_variables(self) -> list[str]:
        """Every variable in which a token may be looked for."""
        tables = {"github": self.github, "gitlab": self.gitlab}
        usual = [name for forge, table in tables.items() if table.hosts or table.token_env is None
                 for name in FORGE_VARIABLES[forge]]  # fmt: skip
        return [*usual, *(name for table in tables.values() for name in table.token_env or ())]


class PullRequestsTable(_Table, frozen=True):
    """`[pull_requests]`: whether failing checks and reviews become tasks by themselves.

    `attempts` is how often an agent is told without success before a person has to look; `interval` how
    often the fleet's facts are looked at.
    """

    feedback: bool = False
    attempts: Annotated[int, msgspec.Meta(ge=1)] = 3
    interval: Seconds = 20


class FileConfig(_Table, frozen=True):
    """The whole of `quarterdeck.toml`."""

    hub: HubTable = HubTable()
    limits: LimitsTable = LimitsTable()
    agents: AgentsTable = AgentsTable()
    providers: dict[str, ProviderTable] = {}
    projects: dict[str, ProjectTable] = {}
    roles: dict[str, RoleTable] = {}
    metadata: MetadataTable = MetadataTable()
    pull_requests: PullRequestsTable = PullRequestsTable()


# Settings that the machine decides: variable, meaning. Read by `variable` alone; docs/configuration.md lists them.
VARIABLES: dict[str, str] = {
    "QD_STATE_DIR": "folder of everything that Quarterdeck keeps (default: the platform's state folder)",
    "QD_HUB_URL": "address of the hub that `qd` talks to (default: what the state folder says)",
    "QD_TOKEN": "token for that hub (default: the one in the state folder)",
    "QD_HOST": "address that the hub listens on, before [hub] host",
    "QD_PORT": "port that the hub listens on, before [hub] port",
    "QD_LOG_LEVEL": "debug, info, warning or error (default: info)",
    "QD_FREE_MEMORY_MB": "before [limits] free_memory_mb",
    "QD_FREE_DISK_MB": "before [limits] free_disk_mb",
    "NO_COLOR": "no colour, whatever the terminal can do",
    "QD_NODE_CONFIG": "configuration file of `qd node serve` (default: /etc/quarterdeck/node.toml)",
    "QD_CLI_CONFIG": "configuration file of `qd` for nodes (default: cli.toml in the platform's configuration folder)",
    "VISUAL": "editor of `qd service edit`, before EDITOR",
    "EDITOR": "editor of `qd service edit`",
}


def variable(name: str) -> str | None:
    """A documented variable of the environment; None when unset or empty."""
    assert name in VARIABLES, f"{name} is not in config.VARIABLES"
    return os.environ.get(name) or None


def passed(names: list[str]) -> dict[str, str]:
    """Those of the named variables that are set here: keys that a provider hands on to its program."""
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def base_environment() -> dict[str, str]:
    """The clean environment every child process starts from: no key, no token."""
    return {name: os.environ[name] for name in _BASE_VARIABLES if name in os.environ}


def quiet_grpc() -> None:
    """Call before gRPC is imported: its C core writes to standard error what we tell as errors, and its fork
    handlers only disturb a process that starts others."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


def config_dir() -> Path:
    """Where the configuration of a person lies; not made here."""
    return Path(platformdirs.user_config_dir("quarterdeck"))


def state_dir() -> Path:
    """Where everything lies that Quarterdeck keeps; not made here."""
    given = variable("QD_STATE_DIR")
    return Path(given).absolute() if given else Path(platformdirs.user_state_dir("quarterdeck"))


def number(name: str, default: int) -> int:
    """A documented variable as a whole number. Raises `InvalidInput` when it is none."""
    text = variable(name)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError:
        raise InvalidInput(f"{name} is {text!r}, which is not a whole number") from None


def with_environment(config: FileConfig) -> FileConfig:
    """The configuration with what the machine's variables say before it. Raises `InvalidInput`."""
    limits = msgspec.structs.replace(
        config.limits,
        free_memory_mb=number("QD_FREE_MEMORY_MB", config.limits.free_memory_mb),
        free_disk_mb=number("QD_FREE_DISK_MB", config.limits.free_disk_mb),
    )
    return msgspec.structs.replace(config, limits=limits)


def load(folder: Path) -> FileConfig:
    """Read `quarterdeck.toml` in a folder; the defaults where there is none.

    Raises `InvalidInput` that names the file and the key (or the line) when it cannot be right.
    """
    file = folder / FILE_NAME
    try:
        text = read_regular(file, MAX_FILE_BYTES).decode()
    except FileNotFoundError:
        return FileConfig()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}") from error
    return _beside(folder, parse(text, origin=str(file)))


def _is_address(text: str) -> bool:
    """Whether it is the address of something on the web."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _beside(folder: Path, config: FileConfig) -> FileConfig:
    """The configuration with paths that are meant relative to its file."""

    def placed(table: ForgeTable) -> ForgeTable:
        if not table.token_file:
            return table
        path = folder.absolute() / Path(table.token_file).expanduser()
        return msgspec.structs.replace(table, token_file=str(path))

    metadata = msgspec.structs.replace(
        config.metadata, github=placed(config.metadata.github), gitlab=placed(config.metadata.gitlab)
    )
    return msgspec.structs.replace(config, metadata=metadata)


def parse(text: str, *, origin: str) -> FileConfig:
    """Check the text of a `quarterdeck.toml`; `origin` names it in errors. Raises `InvalidInput`."""
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # beside TOMLDecodeError: too many digits, too many brackets
        raise InvalidInput(f"{origin} is not TOML: {error}") from error
    return convert(data, FileConfig, origin=origin)


def convert(
    data: Any, kind: type[T], *, origin: str, hint: str = "docs/configuration.md lists every key and what it takes"
) -> T:
    """Check parsed data against a table class. Raises `InvalidInput` naming the origin and the key."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{origin}: {_with_table(error, data, kind)}", hint=hint) from error


def _with_table(error: msgspec.ValidationError, data: Any, kind: type[Any]) -> str:
    """The error's text with the name of the table, which msgspec gives as `[...]` where people choose it."""
    message = str(error)
    place = re.search(r"\$\.([\w.]+)\[\.\.\.\]", message)
    if place is None or not isinstance(data, dict):
        return message
    *above, last = place[1].split(".")
    holder = data
    for key in above:
        holder = holder[key]
    tables = holder[last]
    for name, value in tables.items() if isinstance(tables, dict) else ():
        try:
            # Alone, to see whether it is the one.
            holder[last] = {name: value}
            msgspec.convert(data, kind)
        except msgspec.ValidationError as single:
            if str(single) == message:
                return message.replace("[...]", f".{name}", 1)
        finally:
            holder[last] = tables
    return message


def load_settings(
    file: Path, kind: type[T], *, prefix: str, must_exist: bool = False, strict_prefix: bool = False
) -> T:
    """Read a TOML file against a table class; each key `a.b` of it can be overridden by `PREFIX_A_B`.

    A variable's value is what would stand in the file (text needs no quotes). With `strict_prefix` a variable
    that begins with the prefix and belongs to no key is an error, since it is a typing mistake.
    Raises `InvalidInput` that names the file and the key, or the variable.
    """
    try:
        data: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if must_exist:
            raise InvalidInput(f"{file} does not exist", hint="deploy/examples has one to begin with") from None
        data = {}
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{file} cannot be read as TOML: {error}") from error
    known = set(VARIABLES)
    _override(data, kind, prefix, known)
    if strict_prefix and (strange := sorted(n for n in os.environ if n.startswith(f"{prefix}_") and n not in known)):
        raise InvalidInput(
            f"{strange[0]} overrides no key of {file.name}",
            hint=f"a key `[section] key` is {prefix}_SECTION_KEY; unset what you do not mean",
        )
    return convert(data, kind, origin=str(file), hint="docs/nodes.md lists every key and what it takes")


def _override(data: dict[str, Any], kind: Any, prefix: str, known: set[str]) -> None:
    for field in msgspec.structs.fields(kind):
        name = f"{prefix}_{field.encode_name}".upper()
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            section = data.get(field.encode_name, {})
            if isinstance(section, dict):
                _override(section, field.type, name, known)
                if section:
                    data[field.encode_name] = section
            continue
        known.add(name)
        if name in os.environ:
            data[field.encode_name] = _value_of(name, os.environ[name], field.type)


def _value_of(name: str, text: str, kind: Any) -> Any:
    """What a variable says, checked alone so that the error can name it."""
    try:
        parsed: Any = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        parsed = text
    for candidate in (text, parsed):
        try:
            return msgspec.to_builtins(msgspec.convert(candidate, kind, strict=candidate is not text))
        except msgspec.ValidationError as error:
            problem = error
    raise InvalidInput(f"{name} is {text!r}: {problem}", hint="write it as it would stand in the file")
