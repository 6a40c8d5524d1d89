# Made by scripts/proto.py (`make proto`); edit the .proto files instead.
from quarterdeck.node.proto import model_pb2 as _model_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTION_UNSPECIFIED: _ClassVar[Action]
    ACTION_CREATE: _ClassVar[Action]
    ACTION_REPLACE: _ClassVar[Action]
    ACTION_START: _ClassVar[Action]
    ACTION_STOP: _ClassVar[Action]
    ACTION_KEEP: _ClassVar[Action]
    ACTION_REMOVE: _ClassVar[Action]
    ACTION_FAIL: _ClassVar[Action]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_CREATED: _ClassVar[Outcome]
    OUTCOME_REPLACED: _ClassVar[Outcome]
    OUTCOME_STARTED: _ClassVar[Outcome]
    OUTCOME_STOPPED: _ClassVar[Outcome]
    OUTCOME_RESTARTED: _ClassVar[Outcome]
    OUTCOME_REMOVED: _ClassVar[Outcome]
    OUTCOME_UNCHANGED: _ClassVar[Outcome]
    OUTCOME_RESTORED: _ClassVar[Outcome]
    OUTCOME_FAILED: _ClassVar[Outcome]
    OUTCOME_SKIPPED: _ClassVar[Outcome]
    OUTCOME_ADOPTED: _ClassVar[Outcome]
    OUTCOME_UPDATED: _ClassVar[Outcome]
    OUTCOME_IGNORED: _ClassVar[Outcome]

class Step(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STEP_UNSPECIFIED: _ClassVar[Step]
    STEP_WAITING: _ClassVar[Step]
    STEP_PULLING: _ClassVar[Step]
    STEP_PULLED: _ClassVar[Step]
    STEP_CREATING: _ClassVar[Step]
    STEP_STOPPING_OLD: _ClassVar[Step]
    STEP_STARTING: _ClassVar[Step]
    STEP_PROBING: _ClassVar[Step]
    STEP_HEALTHY: _ClassVar[Step]
    STEP_RESTORING: _ClassVar[Step]
    STEP_REMOVING: _ClassVar[Step]
    STEP_COMPONENT_DONE: _ClassVar[Step]
    STEP_DONE: _ClassVar[Step]

class DriftKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DRIFT_KIND_UNSPECIFIED: _ClassVar[DriftKind]
    DRIFT_KIND_STATE: _ClassVar[DriftKind]
    DRIFT_KIND_IMAGE: _ClassVar[DriftKind]
    DRIFT_KIND_SPEC: _ClassVar[DriftKind]
    DRIFT_KIND_CONFIG: _ClassVar[DriftKind]

class Stream(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STREAM_UNSPECIFIED: _ClassVar[Stream]
    STREAM_STDOUT: _ClassVar[Stream]
    STREAM_STDERR: _ClassVar[Stream]

class RuntimeKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUNTIME_KIND_UNSPECIFIED: _ClassVar[RuntimeKind]
    RUNTIME_KIND_CLI: _ClassVar[RuntimeKind]
    RUNTIME_KIND_API: _ClassVar[RuntimeKind]
ACTION_UNSPECIFIED: Action
ACTION_CREATE: Action
ACTION_REPLACE: Action
ACTION_START: Action
ACTION_STOP: Action
ACTION_KEEP: Action
ACTION_REMOVE: Action
ACTION_FAIL: Action
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_CREATED: Outcome
OUTCOME_REPLACED: Outcome
OUTCOME_STARTED: Outcome
OUTCOME_STOPPED: Outcome
OUTCOME_RESTARTED: Outcome
OUTCOME_REMOVED: Outcome
OUTCOME_UNCHANGED: Outcome
OUTCOME_RESTORED: Outcome
OUTCOME_FAILED: Outcome
OUTCOME_SKIPPED: Outcome
OUTCOME_ADOPTED: Outcome
OUTCOME_UPDATED: Outcome
OUTCOME_IGNORED: Outcome
STEP_UNSPECIFIED: Step
STEP_WAITING: Step
STEP_PULLING: Step
STEP_PULLED: Step
STEP_CREATING: Step
STEP_STOPPING_OLD: Step
STEP_STARTING: Step
STEP_PROBING: Step
STEP_HEALTHY: Step
STEP_RESTORING: Step
STEP_REMOVING: Step
STEP_COMPONENT_DONE: Step
STEP_DONE: Step
DRIFT_KIND_UNSPECIFIED: DriftKind
DRIFT_KIND_STATE: DriftKind
DRIFT_KIND_IMAGE: DriftKind
DRIFT_KIND_SPEC: DriftKind
DRIFT_KIND_CONFIG: DriftKind
STREAM_UNSPECIFIED: Stream
STREAM_STDOUT: Stream
STREAM_STDERR: Stream
RUNTIME_KIND_UNSPECIFIED: RuntimeKind
RUNTIME_KIND_CLI: RuntimeKind
RUNTIME_KIND_API: RuntimeKind

class FieldChange(_message.Message):
    __slots__ = ("field", "before", "after")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    field: str
    before: str
    after: str
    def __init__(self, field: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ...) -> None: ...

class PlannedAction(_message.Message):
    __slots__ = ("component", "container_name", "action", "changes", "reason")
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_NAME_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    component: str
    container_name: str
    action: Action
    changes: _containers.RepeatedCompositeFieldContainer[FieldChange]
    reason: str
    def __init__(self, component: _Optional[str] = ..., container_name: _Optional[str] = ..., action: _Optional[_Union[Action, str]] = ..., changes: _Optional[_Iterable[_Union[FieldChange, _Mapping]]] = ..., reason: _Optional[str] = ...) -> None: ...

class DeployPlan(_message.Message):
    __slots__ = ("service", "generation", "next_generation", "actions")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    NEXT_GENERATION_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    service: str
    generation: int
    next_generation: int
    actions: _containers.RepeatedCompositeFieldContainer[PlannedAction]
    def __init__(self, service: _Optional[str] = ..., generation: _Optional[int] = ..., next_generation: _Optional[int] = ..., actions: _Optional[_Iterable[_Union[PlannedAction, _Mapping]]] = ...) -> None: ...

class ComponentResult(_message.Message):
    __slots__ = ("component", "outcome", "message", "container_id", "image_digest", "seconds")
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    component: str
    outcome: Outcome
    message: str
    container_id: str
    image_digest: str
    seconds: float
    def __init__(self, component: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., message: _Optional[str] = ..., container_id: _Optional[str] = ..., image_digest: _Optional[str] = ..., seconds: _Optional[float] = ...) -> None: ...

class ServiceResult(_message.Message):
    __slots__ = ("service", "operation_id", "generation", "components")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    service: str
    operation_id: str
    generation: int
    components: _containers.RepeatedCompositeFieldContainer[ComponentResult]
    def __init__(self, service: _Optional[str] = ..., operation_id: _Optional[str] = ..., generation: _Optional[int] = ..., components: _Optional[_Iterable[_Union[ComponentResult, _Mapping]]] = ...) -> None: ...

class DeployProgress(_message.Message):
    __slots__ = ("service", "component", "step", "at", "message", "result", "final", "plan")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    service: str
    component: str
    step: Step
    at: float
    message: str
    result: ComponentResult
    final: ServiceResult
    plan: DeployPlan
    def __init__(self, service: _Optional[str] = ..., component: _Optional[str] = ..., step: _Optional[_Union[Step, str]] = ..., at: _Optional[float] = ..., message: _Optional[str] = ..., result: _Optional[_Union[ComponentResult, _Mapping]] = ..., final: _Optional[_Union[ServiceResult, _Mapping]] = ..., plan: _Optional[_Union[DeployPlan, _Mapping]] = ...) -> None: ...

class HistoryEntry(_message.Message):
    __slots__ = ("service", "generation", "at", "actor", "ok", "current", "definition", "images")
    class ImagesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    OK_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    service: str
    generation: int
    at: float
    actor: str
    ok: bool
    current: bool
    definition: _model_pb2.ServiceDef
    images: _containers.ScalarMap[str, str]
    def __init__(self, service: _Optional[str] = ..., generation: _Optional[int] = ..., at: _Optional[float] = ..., actor: _Optional[str] = ..., ok: _Optional[bool] = ..., current: _Optional[bool] = ..., definition: _Optional[_Union[_model_pb2.ServiceDef, _Mapping]] = ..., images: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Drift(_message.Message):
    __slots__ = ("component", "kind", "field", "desired", "actual")
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    ACTUAL_FIELD_NUMBER: _ClassVar[int]
    component: str
    kind: DriftKind
    field: str
    desired: str
    actual: str
    def __init__(self, component: _Optional[str] = ..., kind: _Optional[_Union[DriftKind, str]] = ..., field: _Optional[str] = ..., desired: _Optional[str] = ..., actual: _Optional[str] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("cpu_percent", "memory", "memory_limit", "pids")
    CPU_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_FIELD_NUMBER: _ClassVar[int]
    PIDS_FIELD_NUMBER: _ClassVar[int]
    cpu_percent: float
    memory: int
    memory_limit: int
    pids: int
    def __init__(self, cpu_percent: _Optional[float] = ..., memory: _Optional[int] = ..., memory_limit: _Optional[int] = ..., pids: _Optional[int] = ...) -> None: ...

class LiveComponent(_message.Message):
    __slots__ = ("service", "component", "container_name", "desired", "observed", "version", "changed", "previous", "usage", "done")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_NAME_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    service: str
    component: str
    container_name: str
    desired: _model_pb2.Desired
    observed: _model_pb2.Observed
    version: str
    changed: bool
    previous: _model_pb2.State
    usage: Usage
    done: bool
    def __init__(self, service: _Optional[str] = ..., component: _Optional[str] = ..., container_name: _Optional[str] = ..., desired: _Optional[_Union[_model_pb2.Desired, str]] = ..., observed: _Optional[_Union[_model_pb2.Observed, _Mapping]] = ..., version: _Optional[str] = ..., changed: _Optional[bool] = ..., previous: _Optional[_Union[_model_pb2.State, str]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., done: _Optional[bool] = ...) -> None: ...

class LiveCheck(_message.Message):
    __slots__ = ("at", "components", "unmanaged", "runtime_error")
    AT_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    UNMANAGED_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_ERROR_FIELD_NUMBER: _ClassVar[int]
    at: float
    components: _containers.RepeatedCompositeFieldContainer[LiveComponent]
    unmanaged: _containers.RepeatedScalarFieldContainer[str]
    runtime_error: str
    def __init__(self, at: _Optional[float] = ..., components: _Optional[_Iterable[_Union[LiveComponent, _Mapping]]] = ..., unmanaged: _Optional[_Iterable[str]] = ..., runtime_error: _Optional[str] = ...) -> None: ...

class ServiceStatus(_message.Message):
    __slots__ = ("service", "drift", "events", "runtime_error")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    DRIFT_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_ERROR_FIELD_NUMBER: _ClassVar[int]
    service: _model_pb2.ServiceRecord
    drift: _containers.RepeatedCompositeFieldContainer[Drift]
    events: _containers.RepeatedCompositeFieldContainer[_model_pb2.Event]
    runtime_error: str
    def __init__(self, service: _Optional[_Union[_model_pb2.ServiceRecord, _Mapping]] = ..., drift: _Optional[_Iterable[_Union[Drift, _Mapping]]] = ..., events: _Optional[_Iterable[_Union[_model_pb2.Event, _Mapping]]] = ..., runtime_error: _Optional[str] = ...) -> None: ...

class SyncItem(_message.Message):
    __slots__ = ("service", "outcome", "generation", "changes", "message")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    service: str
    outcome: Outcome
    generation: int
    changes: _containers.RepeatedCompositeFieldContainer[FieldChange]
    message: str
    def __init__(self, service: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., generation: _Optional[int] = ..., changes: _Optional[_Iterable[_Union[FieldChange, _Mapping]]] = ..., message: _Optional[str] = ...) -> None: ...

class SyncSummary(_message.Message):
    __slots__ = ("operation_id", "items", "undefined", "plan_only")
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    UNDEFINED_FIELD_NUMBER: _ClassVar[int]
    PLAN_ONLY_FIELD_NUMBER: _ClassVar[int]
    operation_id: str
    items: _containers.RepeatedCompositeFieldContainer[SyncItem]
    undefined: _containers.RepeatedScalarFieldContainer[str]
    plan_only: bool
    def __init__(self, operation_id: _Optional[str] = ..., items: _Optional[_Iterable[_Union[SyncItem, _Mapping]]] = ..., undefined: _Optional[_Iterable[str]] = ..., plan_only: _Optional[bool] = ...) -> None: ...

class AdoptedContainer(_message.Message):
    __slots__ = ("container_name", "component", "outcome", "desired", "message", "warnings")
    CONTAINER_NAME_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    container_name: str
    component: str
    outcome: Outcome
    desired: _model_pb2.Desired
    message: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, container_name: _Optional[str] = ..., component: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., desired: _Optional[_Union[_model_pb2.Desired, str]] = ..., message: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class AdoptResult(_message.Message):
    __slots__ = ("service", "operation_id", "generation", "containers")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CONTAINERS_FIELD_NUMBER: _ClassVar[int]
    service: str
    operation_id: str
    generation: int
    containers: _containers.RepeatedCompositeFieldContainer[AdoptedContainer]
    def __init__(self, service: _Optional[str] = ..., operation_id: _Optional[str] = ..., generation: _Optional[int] = ..., containers: _Optional[_Iterable[_Union[AdoptedContainer, _Mapping]]] = ...) -> None: ...

class PushRequest(_message.Message):
    __slots__ = ("service", "path", "size", "sha256", "mode", "owner", "offset")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    service: str
    path: str
    size: int
    sha256: str
    mode: int
    owner: str
    offset: int
    def __init__(self, service: _Optional[str] = ..., path: _Optional[str] = ..., size: _Optional[int] = ..., sha256: _Optional[str] = ..., mode: _Optional[int] = ..., owner: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class PushedFile(_message.Message):
    __slots__ = ("service", "path", "size", "sha256", "mode", "operation_id")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    service: str
    path: str
    size: int
    sha256: str
    mode: int
    operation_id: str
    def __init__(self, service: _Optional[str] = ..., path: _Optional[str] = ..., size: _Optional[int] = ..., sha256: _Optional[str] = ..., mode: _Optional[int] = ..., operation_id: _Optional[str] = ...) -> None: ...

class FileHeader(_message.Message):
    __slots__ = ("service", "path", "size", "mode", "uid", "gid", "modified_at")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    MODIFIED_AT_FIELD_NUMBER: _ClassVar[int]
    service: str
    path: str
    size: int
    mode: int
    uid: int
    gid: int
    modified_at: float
    def __init__(self, service: _Optional[str] = ..., path: _Optional[str] = ..., size: _Optional[int] = ..., mode: _Optional[int] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ..., modified_at: _Optional[float] = ...) -> None: ...

class LogLine(_message.Message):
    __slots__ = ("service", "component", "at", "stream", "text")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    service: str
    component: str
    at: float
    stream: Stream
    text: str
    def __init__(self, service: _Optional[str] = ..., component: _Optional[str] = ..., at: _Optional[float] = ..., stream: _Optional[_Union[Stream, str]] = ..., text: _Optional[str] = ...) -> None: ...

class ExecOutput(_message.Message):
    __slots__ = ("stream", "data", "exit_code")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    stream: Stream
    data: bytes
    exit_code: int
    def __init__(self, stream: _Optional[_Union[Stream, str]] = ..., data: _Optional[bytes] = ..., exit_code: _Optional[int] = ...) -> None: ...

class RuntimeInfo(_message.Message):
    __slots__ = ("kind", "version", "address")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    kind: RuntimeKind
    version: str
    address: str
    def __init__(self, kind: _Optional[_Union[RuntimeKind, str]] = ..., version: _Optional[str] = ..., address: _Optional[str] = ...) -> None: ...

class NodeInfo(_message.Message):
    __slots__ = ("name", "hostname", "version", "started_at", "os", "kernel", "cpus", "memory_total", "memory_available", "disk_total", "disk_free", "services", "containers_running", "containers_desired", "paused", "draining", "schema", "runtime", "runtime_error", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    OS_FIELD_NUMBER: _ClassVar[int]
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_TOTAL_FIELD_NUMBER: _ClassVar[int]
    MEMORY_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    DISK_TOTAL_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    CONTAINERS_RUNNING_FIELD_NUMBER: _ClassVar[int]
    CONTAINERS_DESIRED_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_ERROR_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    hostname: str
    version: str
    started_at: float
    os: str
    kernel: str
    cpus: int
    memory_total: int
    memory_available: int
    disk_total: int
    disk_free: int
    services: int
    containers_running: int
    containers_desired: int
    paused: bool
    draining: bool
    schema: int
    runtime: RuntimeInfo
    runtime_error: str
    labels: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., hostname: _Optional[str] = ..., version: _Optional[str] = ..., started_at: _Optional[float] = ..., os: _Optional[str] = ..., kernel: _Optional[str] = ..., cpus: _Optional[int] = ..., memory_total: _Optional[int] = ..., memory_available: _Optional[int] = ..., disk_total: _Optional[int] = ..., disk_free: _Optional[int] = ..., services: _Optional[int] = ..., containers_running: _Optional[int] = ..., containers_desired: _Optional[int] = ..., paused: _Optional[bool] = ..., draining: _Optional[bool] = ..., schema: _Optional[int] = ..., runtime: _Optional[_Union[RuntimeInfo, _Mapping]] = ..., runtime_error: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class SnapshotInfo(_message.Message):
    __slots__ = ("path", "at", "size", "schema", "services")
    PATH_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    path: str
    at: float
    size: int
    schema: int
    services: int
    def __init__(self, path: _Optional[str] = ..., at: _Optional[float] = ..., size: _Optional[int] = ..., schema: _Optional[int] = ..., services: _Optional[int] = ...) -> None: ...
