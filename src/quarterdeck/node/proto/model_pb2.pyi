# Made by scripts/proto.py (`make proto`); edit the .proto files instead.
from collections.abc import Iterable as _Iterable
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper

DESCRIPTOR: _descriptor.FileDescriptor

class Protocol(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROTOCOL_UNSPECIFIED: _ClassVar[Protocol]
    PROTOCOL_TCP: _ClassVar[Protocol]
    PROTOCOL_UDP: _ClassVar[Protocol]

class Restart(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESTART_UNSPECIFIED: _ClassVar[Restart]
    RESTART_NO: _ClassVar[Restart]
    RESTART_ON_FAILURE: _ClassVar[Restart]
    RESTART_ALWAYS: _ClassVar[Restart]

class SecretKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SECRET_KIND_UNSPECIFIED: _ClassVar[SecretKind]
    SECRET_KIND_ENV: _ClassVar[SecretKind]
    SECRET_KIND_FILE: _ClassVar[SecretKind]

class Desired(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DESIRED_UNSPECIFIED: _ClassVar[Desired]
    DESIRED_RUNNING: _ClassVar[Desired]
    DESIRED_STOPPED: _ClassVar[Desired]
    DESIRED_IGNORE: _ClassVar[Desired]

class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATE_UNSPECIFIED: _ClassVar[State]
    STATE_UNKNOWN: _ClassVar[State]
    STATE_MISSING: _ClassVar[State]
    STATE_CREATED: _ClassVar[State]
    STATE_RUNNING: _ClassVar[State]
    STATE_PAUSED: _ClassVar[State]
    STATE_EXITED: _ClassVar[State]

class Health(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HEALTH_UNSPECIFIED: _ClassVar[Health]
    HEALTH_NONE: _ClassVar[Health]
    HEALTH_STARTING: _ClassVar[Health]
    HEALTH_HEALTHY: _ClassVar[Health]
    HEALTH_UNHEALTHY: _ClassVar[Health]

PROTOCOL_UNSPECIFIED: Protocol
PROTOCOL_TCP: Protocol
PROTOCOL_UDP: Protocol
RESTART_UNSPECIFIED: Restart
RESTART_NO: Restart
RESTART_ON_FAILURE: Restart
RESTART_ALWAYS: Restart
SECRET_KIND_UNSPECIFIED: SecretKind
SECRET_KIND_ENV: SecretKind
SECRET_KIND_FILE: SecretKind
DESIRED_UNSPECIFIED: Desired
DESIRED_RUNNING: Desired
DESIRED_STOPPED: Desired
DESIRED_IGNORE: Desired
STATE_UNSPECIFIED: State
STATE_UNKNOWN: State
STATE_MISSING: State
STATE_CREATED: State
STATE_RUNNING: State
STATE_PAUSED: State
STATE_EXITED: State
HEALTH_UNSPECIFIED: Health
HEALTH_NONE: Health
HEALTH_STARTING: Health
HEALTH_HEALTHY: Health
HEALTH_UNHEALTHY: Health

class Port(_message.Message):
    __slots__ = ("container", "host", "host_ip", "protocol")
    HOST_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    HOST_IP_FIELD_NUMBER: _ClassVar[int]
    host: int
    container: int
    protocol: Protocol
    host_ip: str
    def __init__(
        self,
        host: int | None = ...,
        container: int | None = ...,
        protocol: Protocol | str | None = ...,
        host_ip: str | None = ...,
    ) -> None: ...

class Volume(_message.Message):
    __slots__ = ("options", "source", "target")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    source: str
    target: str
    options: _containers.RepeatedScalarFieldContainer[str]
    def __init__(
        self, source: str | None = ..., target: str | None = ..., options: _Iterable[str] | None = ...
    ) -> None: ...

class Secret(_message.Message):
    __slots__ = ("kind", "name", "target")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: SecretKind
    target: str
    def __init__(
        self, name: str | None = ..., kind: SecretKind | str | None = ..., target: str | None = ...
    ) -> None: ...

class Limits(_message.Message):
    __slots__ = ("cpus", "memory", "pids")
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    PIDS_FIELD_NUMBER: _ClassVar[int]
    memory: int
    cpus: float
    pids: int
    def __init__(
        self, memory: int | None = ..., cpus: float | None = ..., pids: int | None = ...
    ) -> None: ...

class Healthcheck(_message.Message):
    __slots__ = ("command", "interval", "retries", "start_period", "timeout")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    RETRIES_FIELD_NUMBER: _ClassVar[int]
    START_PERIOD_FIELD_NUMBER: _ClassVar[int]
    command: _containers.RepeatedScalarFieldContainer[str]
    interval: float
    timeout: float
    retries: int
    start_period: float
    def __init__(
        self,
        command: _Iterable[str] | None = ...,
        interval: float | None = ...,
        timeout: float | None = ...,
        retries: int | None = ...,
        start_period: float | None = ...,
    ) -> None: ...

class ComponentSpec(_message.Message):
    __slots__ = (
        "cmd",
        "depends_on",
        "entrypoint",
        "env",
        "env_files",
        "healthcheck",
        "image",
        "labels",
        "limits",
        "name",
        "network",
        "ports",
        "restart",
        "secrets",
        "stop_seconds",
        "user",
        "volumes",
        "workdir",
    )
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: str | None = ..., value: str | None = ...) -> None: ...

    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: str | None = ..., value: str | None = ...) -> None: ...

    NAME_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    VOLUMES_FIELD_NUMBER: _ClassVar[int]
    ENTRYPOINT_FIELD_NUMBER: _ClassVar[int]
    CMD_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    ENV_FILES_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    WORKDIR_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    HEALTHCHECK_FIELD_NUMBER: _ClassVar[int]
    DEPENDS_ON_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    STOP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    image: str
    ports: _containers.RepeatedCompositeFieldContainer[Port]
    volumes: _containers.RepeatedCompositeFieldContainer[Volume]
    entrypoint: _containers.RepeatedScalarFieldContainer[str]
    cmd: _containers.RepeatedScalarFieldContainer[str]
    env: _containers.ScalarMap[str, str]
    env_files: _containers.RepeatedScalarFieldContainer[str]
    secrets: _containers.RepeatedCompositeFieldContainer[Secret]
    user: str
    workdir: str
    network: str
    restart: Restart
    limits: Limits
    healthcheck: Healthcheck
    depends_on: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    stop_seconds: int
    def __init__(
        self,
        name: str | None = ...,
        image: str | None = ...,
        ports: _Iterable[Port | _Mapping] | None = ...,
        volumes: _Iterable[Volume | _Mapping] | None = ...,
        entrypoint: _Iterable[str] | None = ...,
        cmd: _Iterable[str] | None = ...,
        env: _Mapping[str, str] | None = ...,
        env_files: _Iterable[str] | None = ...,
        secrets: _Iterable[Secret | _Mapping] | None = ...,
        user: str | None = ...,
        workdir: str | None = ...,
        network: str | None = ...,
        restart: Restart | str | None = ...,
        limits: Limits | _Mapping | None = ...,
        healthcheck: Healthcheck | _Mapping | None = ...,
        depends_on: _Iterable[str] | None = ...,
        labels: _Mapping[str, str] | None = ...,
        stop_seconds: int | None = ...,
    ) -> None: ...

class ServiceDef(_message.Message):
    __slots__ = ("active", "components", "enforce", "name", "node")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    ENFORCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    components: _containers.RepeatedCompositeFieldContainer[ComponentSpec]
    node: str
    active: bool
    enforce: bool
    def __init__(
        self,
        name: str | None = ...,
        components: _Iterable[ComponentSpec | _Mapping] | None = ...,
        node: str | None = ...,
        active: bool | None = ...,
        enforce: bool | None = ...,
    ) -> None: ...

class Observed(_message.Message):
    __slots__ = (
        "at",
        "container_id",
        "exit_code",
        "finished_at",
        "generation",
        "health",
        "image",
        "image_digest",
        "message",
        "pid",
        "spec_hash",
        "started_at",
        "state",
    )
    STATE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SPEC_HASH_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    state: State
    at: float
    container_id: str
    pid: int
    image: str
    image_digest: str
    spec_hash: str
    generation: int
    started_at: float
    finished_at: float
    exit_code: int
    health: Health
    message: str
    def __init__(
        self,
        state: State | str | None = ...,
        at: float | None = ...,
        container_id: str | None = ...,
        pid: int | None = ...,
        image: str | None = ...,
        image_digest: str | None = ...,
        spec_hash: str | None = ...,
        generation: int | None = ...,
        started_at: float | None = ...,
        finished_at: float | None = ...,
        exit_code: int | None = ...,
        health: Health | str | None = ...,
        message: str | None = ...,
    ) -> None: ...

class ComponentRecord(_message.Message):
    __slots__ = (
        "container_name",
        "desired",
        "generation",
        "image_digest",
        "observed",
        "restarts",
        "service",
        "spec",
        "spec_hash",
        "version",
    )
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_NAME_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SPEC_HASH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    service: str
    spec: ComponentSpec
    container_name: str
    desired: Desired
    generation: int
    spec_hash: str
    version: str
    image_digest: str
    observed: Observed
    restarts: int
    def __init__(
        self,
        service: str | None = ...,
        spec: ComponentSpec | _Mapping | None = ...,
        container_name: str | None = ...,
        desired: Desired | str | None = ...,
        generation: int | None = ...,
        spec_hash: str | None = ...,
        version: str | None = ...,
        image_digest: str | None = ...,
        observed: Observed | _Mapping | None = ...,
        restarts: int | None = ...,
    ) -> None: ...

class ServiceRecord(_message.Message):
    __slots__ = ("active", "components", "enforce", "generation", "managed", "name", "node", "paused", "updated_at")
    NAME_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    ENFORCE_FIELD_NUMBER: _ClassVar[int]
    MANAGED_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    name: str
    generation: int
    components: _containers.RepeatedCompositeFieldContainer[ComponentRecord]
    active: bool
    enforce: bool
    managed: bool
    paused: bool
    node: str
    updated_at: float
    def __init__(
        self,
        name: str | None = ...,
        generation: int | None = ...,
        components: _Iterable[ComponentRecord | _Mapping] | None = ...,
        active: bool | None = ...,
        enforce: bool | None = ...,
        managed: bool | None = ...,
        paused: bool | None = ...,
        node: str | None = ...,
        updated_at: float | None = ...,
    ) -> None: ...

class Event(_message.Message):
    __slots__ = ("at", "component", "details", "from_state", "id", "kind", "message", "service", "to_state")
    ID_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FROM_STATE_FIELD_NUMBER: _ClassVar[int]
    TO_STATE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    id: int
    at: float
    service: str
    component: str
    kind: str
    message: str
    from_state: str
    to_state: str
    details: str
    def __init__(
        self,
        id: int | None = ...,
        at: float | None = ...,
        service: str | None = ...,
        component: str | None = ...,
        kind: str | None = ...,
        message: str | None = ...,
        from_state: str | None = ...,
        to_state: str | None = ...,
        details: str | None = ...,
    ) -> None: ...
