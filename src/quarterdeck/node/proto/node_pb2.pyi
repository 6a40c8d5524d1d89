# Made by scripts/proto.py (`make proto`); edit the .proto files instead.
from collections.abc import Iterable as _Iterable
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from google.protobuf.internal import containers as _containers

from quarterdeck.node.proto import model_pb2 as _model_pb2
from quarterdeck.node.proto import results_pb2 as _results_pb2

DESCRIPTOR: _descriptor.FileDescriptor

class Mutation(_message.Message):
    __slots__ = ("expected_generation", "operation_id", "wait_seconds")
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    operation_id: str
    expected_generation: int
    wait_seconds: float
    def __init__(
        self,
        operation_id: str | None = ...,
        expected_generation: int | None = ...,
        wait_seconds: float | None = ...,
    ) -> None: ...

class DeployRequest(_message.Message):
    __slots__ = ("components", "definition", "mutation", "plan_only")
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    PLAN_ONLY_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    definition: _model_pb2.ServiceDef
    components: _containers.RepeatedScalarFieldContainer[str]
    plan_only: bool
    mutation: Mutation
    def __init__(
        self,
        definition: _model_pb2.ServiceDef | _Mapping | None = ...,
        components: _Iterable[str] | None = ...,
        plan_only: bool | None = ...,
        mutation: Mutation | _Mapping | None = ...,
    ) -> None: ...

class DeployResponse(_message.Message):
    __slots__ = ("progress",)
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    progress: _results_pb2.DeployProgress
    def __init__(self, progress: _results_pb2.DeployProgress | _Mapping | None = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ("generation", "mutation", "plan_only", "service")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    PLAN_ONLY_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    service: str
    generation: int
    plan_only: bool
    mutation: Mutation
    def __init__(
        self,
        service: str | None = ...,
        generation: int | None = ...,
        plan_only: bool | None = ...,
        mutation: Mutation | _Mapping | None = ...,
    ) -> None: ...

class RollbackResponse(_message.Message):
    __slots__ = ("progress",)
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    progress: _results_pb2.DeployProgress
    def __init__(self, progress: _results_pb2.DeployProgress | _Mapping | None = ...) -> None: ...

class GetHistoryRequest(_message.Message):
    __slots__ = ("service",)
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    service: str
    def __init__(self, service: str | None = ...) -> None: ...

class GetHistoryResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[_results_pb2.HistoryEntry]
    def __init__(self, entries: _Iterable[_results_pb2.HistoryEntry | _Mapping] | None = ...) -> None: ...

class StopServiceRequest(_message.Message):
    __slots__ = ("component", "mutation", "service")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    service: str
    component: str
    mutation: Mutation
    def __init__(
        self,
        service: str | None = ...,
        component: str | None = ...,
        mutation: Mutation | _Mapping | None = ...,
    ) -> None: ...

class StopServiceResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _results_pb2.ServiceResult
    def __init__(self, result: _results_pb2.ServiceResult | _Mapping | None = ...) -> None: ...

class StartServiceRequest(_message.Message):
    __slots__ = ("component", "mutation", "service")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    service: str
    component: str
    mutation: Mutation
    def __init__(
        self,
        service: str | None = ...,
        component: str | None = ...,
        mutation: Mutation | _Mapping | None = ...,
    ) -> None: ...

class StartServiceResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _results_pb2.ServiceResult
    def __init__(self, result: _results_pb2.ServiceResult | _Mapping | None = ...) -> None: ...

class RestartServiceRequest(_message.Message):
    __slots__ = ("component", "mutation", "service")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    service: str
    component: str
    mutation: Mutation
    def __init__(
        self,
        service: str | None = ...,
        component: str | None = ...,
        mutation: Mutation | _Mapping | None = ...,
    ) -> None: ...

class RestartServiceResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _results_pb2.ServiceResult
    def __init__(self, result: _results_pb2.ServiceResult | _Mapping | None = ...) -> None: ...

class PurgeServiceRequest(_message.Message):
    __slots__ = ("files", "mutation", "service")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    service: str
    files: bool
    mutation: Mutation
    def __init__(
        self,
        service: str | None = ...,
        files: bool | None = ...,
        mutation: Mutation | _Mapping | None = ...,
    ) -> None: ...

class PurgeServiceResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _results_pb2.ServiceResult
    def __init__(self, result: _results_pb2.ServiceResult | _Mapping | None = ...) -> None: ...

class ListServicesRequest(_message.Message):
    __slots__ = ("service",)
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    service: str
    def __init__(self, service: str | None = ...) -> None: ...

class ListServicesResponse(_message.Message):
    __slots__ = ("services",)
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    services: _containers.RepeatedCompositeFieldContainer[_model_pb2.ServiceRecord]
    def __init__(self, services: _Iterable[_model_pb2.ServiceRecord | _Mapping] | None = ...) -> None: ...

class LiveCheckRequest(_message.Message):
    __slots__ = ("service", "usage")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    service: str
    usage: bool
    def __init__(self, service: str | None = ..., usage: bool | None = ...) -> None: ...

class LiveCheckResponse(_message.Message):
    __slots__ = ("live_check",)
    LIVE_CHECK_FIELD_NUMBER: _ClassVar[int]
    live_check: _results_pb2.LiveCheck
    def __init__(self, live_check: _results_pb2.LiveCheck | _Mapping | None = ...) -> None: ...

class GetServiceStatusRequest(_message.Message):
    __slots__ = ("events", "service")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    service: str
    events: int
    def __init__(self, service: str | None = ..., events: int | None = ...) -> None: ...

class GetServiceStatusResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: _results_pb2.ServiceStatus
    def __init__(self, status: _results_pb2.ServiceStatus | _Mapping | None = ...) -> None: ...

class ExportServiceRequest(_message.Message):
    __slots__ = ("service",)
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    service: str
    def __init__(self, service: str | None = ...) -> None: ...

class ExportServiceResponse(_message.Message):
    __slots__ = ("definition",)
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    definition: _model_pb2.ServiceDef
    def __init__(self, definition: _model_pb2.ServiceDef | _Mapping | None = ...) -> None: ...

class SyncDesiredStateRequest(_message.Message):
    __slots__ = ("apply", "definitions", "mutation", "plan_only", "prune")
    DEFINITIONS_FIELD_NUMBER: _ClassVar[int]
    PRUNE_FIELD_NUMBER: _ClassVar[int]
    APPLY_FIELD_NUMBER: _ClassVar[int]
    PLAN_ONLY_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    definitions: _containers.RepeatedCompositeFieldContainer[_model_pb2.ServiceDef]
    prune: bool
    apply: bool
    plan_only: bool
    mutation: Mutation
    def __init__(
        self,
        definitions: _Iterable[_model_pb2.ServiceDef | _Mapping] | None = ...,
        prune: bool | None = ...,
        apply: bool | None = ...,
        plan_only: bool | None = ...,
        mutation: Mutation | _Mapping | None = ...,
    ) -> None: ...

class SyncDesiredStateResponse(_message.Message):
    __slots__ = ("summary",)
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    summary: _results_pb2.SyncSummary
    def __init__(self, summary: _results_pb2.SyncSummary | _Mapping | None = ...) -> None: ...

class AdoptContainersRequest(_message.Message):
    __slots__ = ("mutation", "service")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    service: str
    mutation: Mutation
    def __init__(
        self, service: str | None = ..., mutation: Mutation | _Mapping | None = ...
    ) -> None: ...

class AdoptContainersResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _results_pb2.AdoptResult
    def __init__(self, result: _results_pb2.AdoptResult | _Mapping | None = ...) -> None: ...

class PushFileRequest(_message.Message):
    __slots__ = ("chunk", "header")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: PushFileHeader
    chunk: bytes
    def __init__(
        self, header: PushFileHeader | _Mapping | None = ..., chunk: bytes | None = ...
    ) -> None: ...

class PushFileHeader(_message.Message):
    __slots__ = ("file", "mutation")
    FILE_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    file: _results_pb2.PushRequest
    mutation: Mutation
    def __init__(
        self,
        file: _results_pb2.PushRequest | _Mapping | None = ...,
        mutation: Mutation | _Mapping | None = ...,
    ) -> None: ...

class PushFileResponse(_message.Message):
    __slots__ = ("file",)
    FILE_FIELD_NUMBER: _ClassVar[int]
    file: _results_pb2.PushedFile
    def __init__(self, file: _results_pb2.PushedFile | _Mapping | None = ...) -> None: ...

class GetPushOffsetRequest(_message.Message):
    __slots__ = ("path", "service", "sha256")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    service: str
    path: str
    sha256: str
    def __init__(
        self, service: str | None = ..., path: str | None = ..., sha256: str | None = ...
    ) -> None: ...

class GetPushOffsetResponse(_message.Message):
    __slots__ = ("offset",)
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    offset: int
    def __init__(self, offset: int | None = ...) -> None: ...

class PullFileRequest(_message.Message):
    __slots__ = ("offset", "path", "service")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    service: str
    path: str
    offset: int
    def __init__(
        self, service: str | None = ..., path: str | None = ..., offset: int | None = ...
    ) -> None: ...

class PullFileResponse(_message.Message):
    __slots__ = ("chunk", "header")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: _results_pb2.FileHeader
    chunk: bytes
    def __init__(
        self, header: _results_pb2.FileHeader | _Mapping | None = ..., chunk: bytes | None = ...
    ) -> None: ...

class LogsRequest(_message.Message):
    __slots__ = ("component", "follow", "service", "since", "tail")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    TAIL_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    service: str
    component: str
    tail: int
    since: float
    follow: bool
    def __init__(
        self,
        service: str | None = ...,
        component: str | None = ...,
        tail: int | None = ...,
        since: float | None = ...,
        follow: bool | None = ...,
    ) -> None: ...

class LogsResponse(_message.Message):
    __slots__ = ("line",)
    LINE_FIELD_NUMBER: _ClassVar[int]
    line: _results_pb2.LogLine
    def __init__(self, line: _results_pb2.LogLine | _Mapping | None = ...) -> None: ...

class EventsRequest(_message.Message):
    __slots__ = ("component", "follow", "limit", "service", "since")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    service: str
    component: str
    since: float
    limit: int
    follow: bool
    def __init__(
        self,
        service: str | None = ...,
        component: str | None = ...,
        since: float | None = ...,
        limit: int | None = ...,
        follow: bool | None = ...,
    ) -> None: ...

class EventsResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: _model_pb2.Event
    def __init__(self, event: _model_pb2.Event | _Mapping | None = ...) -> None: ...

class ExecRequest(_message.Message):
    __slots__ = ("command", "component", "service", "stdin", "user")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    STDIN_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    service: str
    component: str
    command: _containers.RepeatedScalarFieldContainer[str]
    stdin: bytes
    user: str
    def __init__(
        self,
        service: str | None = ...,
        component: str | None = ...,
        command: _Iterable[str] | None = ...,
        stdin: bytes | None = ...,
        user: str | None = ...,
    ) -> None: ...

class ExecResponse(_message.Message):
    __slots__ = ("output",)
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    output: _results_pb2.ExecOutput
    def __init__(self, output: _results_pb2.ExecOutput | _Mapping | None = ...) -> None: ...

class NodeInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class NodeInfoResponse(_message.Message):
    __slots__ = ("info",)
    INFO_FIELD_NUMBER: _ClassVar[int]
    info: _results_pb2.NodeInfo
    def __init__(self, info: _results_pb2.NodeInfo | _Mapping | None = ...) -> None: ...

class SetSecretRequest(_message.Message):
    __slots__ = ("mutation", "name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: bytes
    mutation: Mutation
    def __init__(
        self,
        name: str | None = ...,
        value: bytes | None = ...,
        mutation: Mutation | _Mapping | None = ...,
    ) -> None: ...

class SetSecretResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSecretsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSecretsResponse(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Iterable[str] | None = ...) -> None: ...

class RemoveSecretRequest(_message.Message):
    __slots__ = ("mutation", "name")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    mutation: Mutation
    def __init__(self, name: str | None = ..., mutation: Mutation | _Mapping | None = ...) -> None: ...

class RemoveSecretResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PauseRequest(_message.Message):
    __slots__ = ("mutation", "service")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    service: str
    mutation: Mutation
    def __init__(
        self, service: str | None = ..., mutation: Mutation | _Mapping | None = ...
    ) -> None: ...

class PauseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResumeRequest(_message.Message):
    __slots__ = ("mutation", "service")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    service: str
    mutation: Mutation
    def __init__(
        self, service: str | None = ..., mutation: Mutation | _Mapping | None = ...
    ) -> None: ...

class ResumeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("mutation", "stop")
    STOP_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    stop: bool
    mutation: Mutation
    def __init__(self, stop: bool | None = ..., mutation: Mutation | _Mapping | None = ...) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[_results_pb2.ServiceResult]
    def __init__(self, results: _Iterable[_results_pb2.ServiceResult | _Mapping] | None = ...) -> None: ...

class TakeSnapshotRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TakeSnapshotResponse(_message.Message):
    __slots__ = ("snapshot",)
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    snapshot: _results_pb2.SnapshotInfo
    def __init__(self, snapshot: _results_pb2.SnapshotInfo | _Mapping | None = ...) -> None: ...

class ListSnapshotsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSnapshotsResponse(_message.Message):
    __slots__ = ("snapshots",)
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    snapshots: _containers.RepeatedCompositeFieldContainer[_results_pb2.SnapshotInfo]
    def __init__(self, snapshots: _Iterable[_results_pb2.SnapshotInfo | _Mapping] | None = ...) -> None: ...

class RestoreSnapshotRequest(_message.Message):
    __slots__ = ("mutation", "path")
    PATH_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    path: str
    mutation: Mutation
    def __init__(self, path: str | None = ..., mutation: Mutation | _Mapping | None = ...) -> None: ...

class RestoreSnapshotResponse(_message.Message):
    __slots__ = ("snapshot",)
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    snapshot: _results_pb2.SnapshotInfo
    def __init__(self, snapshot: _results_pb2.SnapshotInfo | _Mapping | None = ...) -> None: ...
