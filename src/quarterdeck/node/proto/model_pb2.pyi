# Made by scripts/proto.py (`make proto`); edit the .proto files instead.
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

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
    __slots__ = ("host", "container", "protocol", "host_ip")
    HOST_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    HOST_IP_FIELD_NUMBER: _ClassVar[int]
    host: int
    container: int
    protocol: Protocol
    host_ip: str
    def __init__(self, host: _Optional[int] = ..., container: _Optional[int] = ..., protocol: _Optional[_Union[Protocol, str]] = ..., host_ip: _Optional[str] = ...) -> None: ...

class Volume(_message.Message):
    __slots__ = ("source", "target", "options")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    source: str
    target: str
    options: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, source: _Optional[str] = ..., target: _Optional[str] = ..., options: _Optional[_Iterable[str]] = ...) -> None: ...

class Secret(_message.Message):
    __slots__ = ("name", "kind", "target")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: SecretKind
    target: str
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[SecretKind, str]] = ..., target: _Optional[str] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("memory", "cpus", "pids")
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    PIDS_FIELD_NUMBER: _ClassVar[int]
    memory: int
    cpus: float
    pids: int
    def __init__(self, memory: _Optional[int] = ..., cpus: _Optional[float] = ..., pids: _Optional[int] = ...) -> None: ...

class Healthcheck(_message.Message):
    __slots__ = ("command", "interval", "timeout", "retries", "start_period")
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
    def __init__(self, command: _Optional[_Iterable[str]] = ..., interval: _Optional[float] = ..., timeout: _Optional[float] = ..., retries: _Optional[int] = ..., start_period: _Optional[float] = ...) -> None: ...

class ComponentSpec(_message.Message):
    __slots__ = ("name", "image", "ports", "volumes", "entrypoint", "cmd", "env", "env_files", "secrets", "user", "workdir", "network", "restart", "limits", "healthcheck", "depends_on", "labels", "stop_seconds")
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
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
    def __init__(self, name: _Optional[str] = ..., image: _Optional[str] = ..., ports: _Optional[_Iterable[_Union[Port, _Mapping]]] = ..., volumes: _Optional[_Iterable[_Union[Volume, _Mapping]]] = ..., entrypoint: _Optional[_Iterable[str]] = ..., cmd: _Optional[_Iterable[str]] = ..., env: _Optional[_Mapping[str, str]] = ..., env_files: _Optional[_Iterable[str]] = ..., secrets: _Optional[_Iterable[_Union[Secret, _Mapping]]] = ..., user: _Optional[str] = ..., workdir: _Optional[str] = ..., network: _Optional[str] = ..., restart: _Optional[_Union[Restart, str]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., healthcheck: _Optional[_Union[Healthcheck, _Mapping]] = ..., depends_on: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., stop_seconds: _Optional[int] = ...) -> None: ...

class ServiceDef(_message.Message):
    __slots__ = ("name", "components", "node", "active", "enforce")
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
    def __init__(self, name: _Optional[str] = ..., components: _Optional[_Iterable[_Union[ComponentSpec, _Mapping]]] = ..., node: _Optional[str] = ..., active: _Optional[bool] = ..., enforce: _Optional[bool] = ...) -> None: ...

class Observed(_message.Message):
    __slots__ = ("state", "at", "container_id", "pid", "image", "image_digest", "spec_hash", "generation", "started_at", "finished_at", "exit_code", "health", "message")
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
    def __init__(self, state: _Optional[_Union[State, str]] = ..., at: _Optional[float] = ..., container_id: _Optional[str] = ..., pid: _Optional[int] = ..., image: _Optional[str] = ..., image_digest: _Optional[str] = ..., spec_hash: _Optional[str] = ..., generation: _Optional[int] = ..., started_at: _Optional[float] = ..., finished_at: _Optional[float] = ..., exit_code: _Optional[int] = ..., health: _Optional[_Union[Health, str]] = ..., message: _Optional[str] = ...) -> None: ...

class ComponentRecord(_message.Message):
    __slots__ = ("service", "spec", "container_name", "desired", "generation", "spec_hash", "version", "image_digest", "observed", "restarts")
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
    def __init__(self, service: _Optional[str] = ..., spec: _Optional[_Union[ComponentSpec, _Mapping]] = ..., container_name: _Optional[str] = ..., desired: _Optional[_Union[Desired, str]] = ..., generation: _Optional[int] = ..., spec_hash: _Optional[str] = ..., version: _Optional[str] = ..., image_digest: _Optional[str] = ..., observed: _Optional[_Union[Observed, _Mapping]] = ..., restarts: _Optional[int] = ...) -> None: ...

class ServiceRecord(_message.Message):
    __slots__ = ("name", "generation", "components", "active", "enforce", "managed", "paused", "node", "updated_at")
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
    def __init__(self, name: _Optional[str] = ..., generation: _Optional[int] = ..., components: _Optional[_Iterable[_Union[ComponentRecord, _Mapping]]] = ..., active: _Optional[bool] = ..., enforce: _Optional[bool] = ..., managed: _Optional[bool] = ..., paused: _Optional[bool] = ..., node: _Optional[str] = ..., updated_at: _Optional[float] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("id", "at", "service", "component", "kind", "message", "from_state", "to_state", "details")
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
    def __init__(self, id: _Optional[int] = ..., at: _Optional[float] = ..., service: _Optional[str] = ..., component: _Optional[str] = ..., kind: _Optional[str] = ..., message: _Optional[str] = ..., from_state: _Optional[str] = ..., to_state: _Optional[str] = ..., details: _Optional[str] = ...) -> None: ...
