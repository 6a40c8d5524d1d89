# Made by scripts/proto.py (`make proto`); edit the .proto files instead.
from collections.abc import Iterable as _Iterable
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper

from quarterdeck.node.proto import model_pb2 as _model_pb2

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
    __slots__ = ("after", "before", "field")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    field: str
    before: str
    after: str
    def __init__(
        self, field: str | None = ..., before: str | None = ..., after: str | None = ...
    ) -> None: ...

class PlannedAction(_message.Message):
    __slots__ = ("action", "changes", "component", "container_name", "reason")
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
    def __init__(
        self,
        component: str | None = ...,
        container_name: str | None = ...,
        action: Action | str | None = ...,
        changes: _Iterable[FieldChange | _Mapping] | None = ...,
        reason: str | None = ...,
    ) -> None: ...

class DeployPlan(_message.Message):
    __slots__ = ("actions", "generation", "next_generation", "service")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    NEXT_GENERATION_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    service: str
    generation: int
    next_generation: int
    actions: _containers.RepeatedCompositeFieldContainer[PlannedAction]
    def __init__(
        self,
        service: str | None = ...,
        generation: int | None = ...,
        next_generation: int | None = ...,
        actions: _Iterable[PlannedAction | _Mapping] | None = ...,
    ) -> None: ...

class ComponentResult(_message.Message):
    __slots__ = ("component", "container_id", "image_digest", "message", "outcome", "seconds")
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
    def __init__(
        self,
        component: str | None = ...,
        outcome: Outcome | str | None = ...,
        message: str | None = ...,
        container_id: str | None = ...,
        image_digest: str | None = ...,
        seconds: float | None = ...,
    ) -> None: ...

class ServiceResult(_message.Message):
    __slots__ = ("components", "generation", "operation_id", "service")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    service: str
    operation_id: str
    generation: int
    components: _containers.RepeatedCompositeFieldContainer[ComponentResult]
    def __init__(
        self,
        service: str | None = ...,
        operation_id: str | None = ...,
        generation: int | None = ...,
        components: _Iterable[ComponentResult | _Mapping] | None = ...,
    ) -> None: ...

class DeployProgress(_message.Message):
    __slots__ = ("at", "component", "final", "message", "plan", "result", "service", "step")
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
    def __init__(
        self,
        service: str | None = ...,
        component: str | None = ...,
        step: Step | str | None = ...,
        at: float | None = ...,
        message: str | None = ...,
        result: ComponentResult | _Mapping | None = ...,
        final: ServiceResult | _Mapping | None = ...,
        plan: DeployPlan | _Mapping | None = ...,
    ) -> None: ...

class HistoryEntry(_message.Message):
    __slots__ = ("actor", "at", "current", "definition", "generation", "ok", "service")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    OK_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    service: str
    generation: int
    at: float
    actor: str
    ok: bool
    current: bool
    definition: _model_pb2.ServiceDef
    def __init__(
        self,
        service: str | None = ...,
        generation: int | None = ...,
        at: float | None = ...,
        actor: str | None = ...,
        ok: bool | None = ...,
        current: bool | None = ...,
        definition: _model_pb2.ServiceDef | _Mapping | None = ...,
    ) -> None: ...

class Drift(_message.Message):
    __slots__ = ("actual", "component", "desired", "field", "kind")
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
    def __init__(
        self,
        component: str | None = ...,
        kind: DriftKind | str | None = ...,
        field: str | None = ...,
        desired: str | None = ...,
        actual: str | None = ...,
    ) -> None: ...

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
    def __init__(
        self,
        cpu_percent: float | None = ...,
        memory: int | None = ...,
        memory_limit: int | None = ...,
        pids: int | None = ...,
    ) -> None: ...

class LiveComponent(_message.Message):
    __slots__ = (
        "changed",
        "component",
        "container_name",
        "desired",
        "observed",
        "previous",
        "service",
        "usage",
        "version",
    )
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_NAME_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    service: str
    component: str
    container_name: str
    desired: _model_pb2.Desired
    observed: _model_pb2.Observed
    version: str
    changed: bool
    previous: _model_pb2.State
    usage: Usage
    def __init__(
        self,
        service: str | None = ...,
        component: str | None = ...,
        container_name: str | None = ...,
        desired: _model_pb2.Desired | str | None = ...,
        observed: _model_pb2.Observed | _Mapping | None = ...,
        version: str | None = ...,
        changed: bool | None = ...,
        previous: _model_pb2.State | str | None = ...,
        usage: Usage | _Mapping | None = ...,
    ) -> None: ...

class LiveCheck(_message.Message):
    __slots__ = ("at", "components", "runtime_error", "unmanaged")
    AT_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    UNMANAGED_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_ERROR_FIELD_NUMBER: _ClassVar[int]
    at: float
    components: _containers.RepeatedCompositeFieldContainer[LiveComponent]
    unmanaged: _containers.RepeatedScalarFieldContainer[str]
    runtime_error: str
    def __init__(
        self,
        at: float | None = ...,
        components: _Iterable[LiveComponent | _Mapping] | None = ...,
        unmanaged: _Iterable[str] | None = ...,
        runtime_error: str | None = ...,
    ) -> None: ...

class ServiceStatus(_message.Message):
    __slots__ = ("drift", "events", "runtime_error", "service")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    DRIFT_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_ERROR_FIELD_NUMBER: _ClassVar[int]
    service: _model_pb2.ServiceRecord
    drift: _containers.RepeatedCompositeFieldContainer[Drift]
    events: _containers.RepeatedCompositeFieldContainer[_model_pb2.Event]
    runtime_error: str
    def __init__(
        self,
        service: _model_pb2.ServiceRecord | _Mapping | None = ...,
        drift: _Iterable[Drift | _Mapping] | None = ...,
        events: _Iterable[_model_pb2.Event | _Mapping] | None = ...,
        runtime_error: str | None = ...,
    ) -> None: ...

class SyncItem(_message.Message):
    __slots__ = ("changes", "generation", "message", "outcome", "service")
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
    def __init__(
        self,
        service: str | None = ...,
        outcome: Outcome | str | None = ...,
        generation: int | None = ...,
        changes: _Iterable[FieldChange | _Mapping] | None = ...,
        message: str | None = ...,
    ) -> None: ...

class SyncSummary(_message.Message):
    __slots__ = ("items", "operation_id", "plan_only", "undefined")
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    UNDEFINED_FIELD_NUMBER: _ClassVar[int]
    PLAN_ONLY_FIELD_NUMBER: _ClassVar[int]
    operation_id: str
    items: _containers.RepeatedCompositeFieldContainer[SyncItem]
    undefined: _containers.RepeatedScalarFieldContainer[str]
    plan_only: bool
    def __init__(
        self,
        operation_id: str | None = ...,
        items: _Iterable[SyncItem | _Mapping] | None = ...,
        undefined: _Iterable[str] | None = ...,
        plan_only: bool | None = ...,
    ) -> None: ...

class AdoptedContainer(_message.Message):
    __slots__ = ("component", "container_name", "desired", "message", "outcome", "warnings")
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
    def __init__(
        self,
        container_name: str | None = ...,
        component: str | None = ...,
        outcome: Outcome | str | None = ...,
        desired: _model_pb2.Desired | str | None = ...,
        message: str | None = ...,
        warnings: _Iterable[str] | None = ...,
    ) -> None: ...

class AdoptResult(_message.Message):
    __slots__ = ("containers", "generation", "operation_id", "service")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CONTAINERS_FIELD_NUMBER: _ClassVar[int]
    service: str
    operation_id: str
    generation: int
    containers: _containers.RepeatedCompositeFieldContainer[AdoptedContainer]
    def __init__(
        self,
        service: str | None = ...,
        operation_id: str | None = ...,
        generation: int | None = ...,
        containers: _Iterable[AdoptedContainer | _Mapping] | None = ...,
    ) -> None: ...

class PushRequest(_message.Message):
    __slots__ = ("mode", "offset", "owner", "path", "service", "sha256", "size")
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
    def __init__(
        self,
        service: str | None = ...,
        path: str | None = ...,
        size: int | None = ...,
        sha256: str | None = ...,
        mode: int | None = ...,
        owner: str | None = ...,
        offset: int | None = ...,
    ) -> None: ...

class PushedFile(_message.Message):
    __slots__ = ("mode", "operation_id", "path", "service", "sha256", "size")
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
    def __init__(
        self,
        service: str | None = ...,
        path: str | None = ...,
        size: int | None = ...,
        sha256: str | None = ...,
        mode: int | None = ...,
        operation_id: str | None = ...,
    ) -> None: ...

class FileHeader(_message.Message):
    __slots__ = ("gid", "mode", "modified_at", "path", "service", "size", "uid")
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
    def __init__(
        self,
        service: str | None = ...,
        path: str | None = ...,
        size: int | None = ...,
        mode: int | None = ...,
        uid: int | None = ...,
        gid: int | None = ...,
        modified_at: float | None = ...,
    ) -> None: ...

class LogLine(_message.Message):
    __slots__ = ("at", "component", "service", "stream", "text")
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
    def __init__(
        self,
        service: str | None = ...,
        component: str | None = ...,
        at: float | None = ...,
        stream: Stream | str | None = ...,
        text: str | None = ...,
    ) -> None: ...

class ExecOutput(_message.Message):
    __slots__ = ("data", "exit_code", "stream")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    stream: Stream
    data: bytes
    exit_code: int
    def __init__(
        self,
        stream: Stream | str | None = ...,
        data: bytes | None = ...,
        exit_code: int | None = ...,
    ) -> None: ...

class RuntimeInfo(_message.Message):
    __slots__ = ("address", "kind", "version")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    kind: RuntimeKind
    version: str
    address: str
    def __init__(
        self,
        kind: RuntimeKind | str | None = ...,
        version: str | None = ...,
        address: str | None = ...,
    ) -> None: ...

class NodeInfo(_message.Message):
    __slots__ = (
        "containers_desired",
        "containers_running",
        "cpus",
        "disk_free",
        "disk_total",
        "draining",
        "hostname",
        "kernel",
        "labels",
        "memory_available",
        "memory_total",
        "name",
        "os",
        "paused",
        "runtime",
        "runtime_error",
        "schema",
        "services",
        "started_at",
        "version",
    )
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: str | None = ..., value: str | None = ...) -> None: ...

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
    def __init__(
        self,
        name: str | None = ...,
        hostname: str | None = ...,
        version: str | None = ...,
        started_at: float | None = ...,
        os: str | None = ...,
        kernel: str | None = ...,
        cpus: int | None = ...,
        memory_total: int | None = ...,
        memory_available: int | None = ...,
        disk_total: int | None = ...,
        disk_free: int | None = ...,
        services: int | None = ...,
        containers_running: int | None = ...,
        containers_desired: int | None = ...,
        paused: bool | None = ...,
        draining: bool | None = ...,
        schema: int | None = ...,
        runtime: RuntimeInfo | _Mapping | None = ...,
        runtime_error: str | None = ...,
        labels: _Mapping[str, str] | None = ...,
    ) -> None: ...

class SnapshotInfo(_message.Message):
    __slots__ = ("at", "path", "schema", "services", "size")
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
    def __init__(
        self,
        path: str | None = ...,
        at: float | None = ...,
        size: int | None = ...,
        schema: int | None = ...,
        services: int | None = ...,
    ) -> None: ...
