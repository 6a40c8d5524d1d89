# Made by scripts/proto.py (`make proto`); edit the .proto files instead.
from quarterdeck.node.proto import model_pb2 as _model_pb2
from quarterdeck.node.proto import results_pb2 as _results_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Mutation(_message.Message):
    __slots__ = ("operation_id", "expected_generation", "wait_seconds")
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    operation_id: str
    expected_generation: int
    wait_seconds: float
    def __init__(self, operation_id: _Optional[str] = ..., expected_generation: _Optional[int] = ..., wait_seconds: _Optional[float] = ...) -> None: ...

class DeployRequest(_message.Message):
    __slots__ = ("definition", "components", "plan_only", "mutation")
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    PLAN_ONLY_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    definition: _model_pb2.ServiceDef
    components: _containers.RepeatedScalarFieldContainer[str]
    plan_only: bool
    mutation: Mutation
    def __init__(self, definition: _Optional[_Union[_model_pb2.ServiceDef, _Mapping]] = ..., components: _Optional[_Iterable[str]] = ..., plan_only: _Optional[bool] = ..., mutation: _Optional[_Union[Mutation, _Mapping]] = ...) -> None: ...

class DeployResponse(_message.Message):
    __slots__ = ("progress",)
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    progress: _results_pb2.DeployProgress
    def __init__(self, progress: _Optional[_Union[_results_pb2.DeployProgress, _Mapping]] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ("service", "generation", "plan_only", "mutation")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    PLAN_ONLY_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    service: str
    generation: int
    plan_only: bool
    mutation: Mutation
    def __init__(self, service: _Optional[str] = ..., generation: _Optional[int] = ..., plan_only: _Optional[bool] = ..., mutation: _Optional[_Union[Mutation, _Mapping]] = ...) -> None: ...

class RollbackResponse(_message.Message):
    __slots__ = ("progress",)
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    progress: _results_pb2.DeployProgress
    def __init__(self, progress: _Optional[_Union[_results_pb2.DeployProgress, _Mapping]] = ...) -> None: ...

class GetHistoryRequest(_message.Message):
    __slots__ = ("service",)
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    service: str
    def __init__(self, service: _Optional[str] = ...) -> None: ...

class GetHistoryResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[_results_pb2.HistoryEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[_results_pb2.HistoryEntry, _Mapping]]] = ...) -> None: ...

class StopServiceRequest(_message.Message):
    __slots__ = ("service", "component", "mutation")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    service: str
    component: str
    mutation: Mutation
    def __init__(self, service: _Optional[str] = ..., component: _Optional[str] = ..., mutation: _Optional[_Union[Mutation, _Mapping]] = ...) -> None: ...

class StopServiceResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _results_pb2.ServiceResult
    def __init__(self, result: _Optional[_Union[_results_pb2.ServiceResult, _Mapping]] = ...) -> None: ...

class StartServiceRequest(_message.Message):
    __slots__ = ("service", "component", "mutation")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    service: str
    component: str
    mutation: Mutation
    def __init__(self, service: _Optional[str] = ..., component: _Optional[str] = ..., mutation: _Optional[_Union[Mutation, _Mapping]] = ...) -> None: ...

class StartServiceResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _results_pb2.ServiceResult
    def __init__(self, result: _Optional[_Union[_results_pb2.ServiceResult, _Mapping]] = ...) -> None: ...

class RestartServiceRequest(_message.Message):
    __slots__ = ("service", "component", "mutation")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    service: str
    component: str
    mutation: Mutation
    def __init__(self, service: _Optional[str] = ..., component: _Optional[str] = ..., mutation: _Optional[_Union[Mutation, _Mapping]] = ...) -> None: ...

class RestartServiceResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _results_pb2.ServiceResult
    def __init__(self, result: _Optional[_Union[_results_pb2.ServiceResult, _Mapping]] = ...) -> None: ...

class PurgeServiceRequest(_message.Message):
    __slots__ = ("service", "files", "mutation")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    service: str
    files: bool
    mutation: Mutation
    def __init__(self, service: _Optional[str] = ..., files: _Optional[bool] = ..., mutation: _Optional[_Union[Mutation, _Mapping]] = ...) -> None: ...

class PurgeServiceResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _results_pb2.ServiceResult
    def __init__(self, result: _Optional[_Union[_results_pb2.ServiceResult, _Mapping]] = ...) -> None: ...

class ListServicesRequest(_message.Message):
    __slots__ = ("service",)
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    service: str
    def __init__(self, service: _Optional[str] = ...) -> None: ...

class ListServicesResponse(_message.Message):
    __slots__ = ("services",)
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    services: _containers.RepeatedCompositeFieldContainer[_model_pb2.ServiceRecord]
    def __init__(self, services: _Optional[_Iterable[_Union[_model_pb2.ServiceRecord, _Mapping]]] = ...) -> None: ...

class LiveCheckRequest(_message.Message):
    __slots__ = ("service", "usage")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    service: str
    usage: bool
    def __init__(self, service: _Optional[str] = ..., usage: _Optional[bool] = ...) -> None: ...

class LiveCheckResponse(_message.Message):
    __slots__ = ("live_check",)
    LIVE_CHECK_FIELD_NUMBER: _ClassVar[int]
    live_check: _results_pb2.LiveCheck
    def __init__(self, live_check: _Optional[_Union[_results_pb2.LiveCheck, _Mapping]] = ...) -> None: ...

class GetServiceStatusRequest(_message.Message):
    __slots__ = ("service", "events")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    service: str
    events: int
    def __init__(self, service: _Optional[str] = ..., events: _Optional[int] = ...) -> None: ...

class GetServiceStatusResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: _results_pb2.ServiceStatus
    def __init__(self, status: _Optional[_Union[_results_pb2.ServiceStatus, _Mapping]] = ...) -> None: ...

class ExportServiceRequest(_message.Message):
    __slots__ = ("service",)
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    service: str
    def __init__(self, service: _Optional[str] = ...) -> None: ...

class ExportServiceResponse(_message.Message):
    __slots__ = ("definition",)
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    definition: _model_pb2.ServiceDef
    def __init__(self, definition: _Optional[_Union[_model_pb2.ServiceDef, _Mapping]] = ...) -> None: ...

class SyncDesiredStateRequest(_message.Message):
    __slots__ = ("definitions", "prune", "apply", "plan_only", "mutation")
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
    def __init__(self, definitions: _Optional[_Iterable[_Union[_model_pb2.ServiceDef, _Mapping]]] = ..., prune: _Optional[bool] = ..., apply: _Optional[bool] = ..., plan_only: _Optional[bool] = ..., mutation: _Optional[_Union[Mutation, _Mapping]] = ...) -> None: ...

class SyncDesiredStateResponse(_message.Message):
    __slots__ = ("summary",)
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    summary: _results_pb2.SyncSummary
    def __init__(self, summary: _Optional[_Union[_results_pb2.SyncSummary, _Mapping]] = ...) -> None: ...

class AdoptContainersRequest(_message.Message):
    __slots__ = ("service", "mutation")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    service: str
    mutation: Mutation
    def __init__(self, service: _Optional[str] = ..., mutation: _Optional[_Union[Mutation, _Mapping]] = ...) -> None: ...

class AdoptContainersResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _results_pb2.AdoptResult
    def __init__(self, result: _Optional[_Union[_results_pb2.AdoptResult, _Mapping]] = ...) -> None: ...

class PushFileRequest(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: PushFileHeader
    chunk: bytes
    def __init__(self, header: _Optional[_Union[PushFileHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class PushFileHeader(_message.Message):
    __slots__ = ("file", "mutation")
    FILE_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    file: _results_pb2.PushRequest
    mutation: Mutation
    def __init__(self, file: _Optional[_Union[_results_pb2.PushRequest, _Mapping]] = ..., mutation: _Optional[_Union[Mutation, _Mapping]] = ...) -> None: ...

class PushFileResponse(_message.Message):
    __slots__ = ("file",)
    FILE_FIELD_NUMBER: _ClassVar[int]
    file: _results_pb2.PushedFile
    def __init__(self, file: _Optional[_Union[_results_pb2.PushedFile, _Mapping]] = ...) -> None: ...

class GetPushOffsetRequest(_message.Message):
    __slots__ = ("service", "path", "sha256")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    service: str
    path: str
    sha256: str
    def __init__(self, service: _Optional[str] = ..., path: _Optional[str] = ..., sha256: _Optional[str] = ...) -> None: ...

class GetPushOffsetResponse(_message.Message):
    __slots__ = ("offset",)
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    offset: int
    def __init__(self, offset: _Optional[int] = ...) -> None: ...

class PullFileRequest(_message.Message):
    __slots__ = ("service", "path", "offset")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    service: str
    path: str
    offset: int
    def __init__(self, service: _Optional[str] = ..., path: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class PullFileResponse(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: _results_pb2.FileHeader
    chunk: bytes
    def __init__(self, header: _Optional[_Union[_results_pb2.FileHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class LogsRequest(_message.Message):
    __slots__ = ("service", "component", "tail", "since", "follow")
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
    def __init__(self, service: _Optional[str] = ..., component: _Optional[str] = ..., tail: _Optional[int] = ..., since: _Optional[float] = ..., follow: _Optional[bool] = ...) -> None: ...

class LogsResponse(_message.Message):
    __slots__ = ("line",)
    LINE_FIELD_NUMBER: _ClassVar[int]
    line: _results_pb2.LogLine
    def __init__(self, line: _Optional[_Union[_results_pb2.LogLine, _Mapping]] = ...) -> None: ...

class EventsRequest(_message.Message):
    __slots__ = ("service", "component", "since", "limit", "follow")
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
    def __init__(self, service: _Optional[str] = ..., component: _Optional[str] = ..., since: _Optional[float] = ..., limit: _Optional[int] = ..., follow: _Optional[bool] = ...) -> None: ...

class EventsResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: _model_pb2.Event
    def __init__(self, event: _Optional[_Union[_model_pb2.Event, _Mapping]] = ...) -> None: ...

class ExecRequest(_message.Message):
    __slots__ = ("service", "component", "command", "stdin", "user")
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
    def __init__(self, service: _Optional[str] = ..., component: _Optional[str] = ..., command: _Optional[_Iterable[str]] = ..., stdin: _Optional[bytes] = ..., user: _Optional[str] = ...) -> None: ...

class ExecResponse(_message.Message):
    __slots__ = ("output",)
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    output: _results_pb2.ExecOutput
    def __init__(self, output: _Optional[_Union[_results_pb2.ExecOutput, _Mapping]] = ...) -> None: ...

class NodeInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class NodeInfoResponse(_message.Message):
    __slots__ = ("info",)
    INFO_FIELD_NUMBER: _ClassVar[int]
    info: _results_pb2.NodeInfo
    def __init__(self, info: _Optional[_Union[_results_pb2.NodeInfo, _Mapping]] = ...) -> None: ...

class SetSecretRequest(_message.Message):
    __slots__ = ("name", "value", "mutation")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: bytes
    mutation: Mutation
    def __init__(self, name: _Optional[str] = ..., value: _Optional[bytes] = ..., mutation: _Optional[_Union[Mutation, _Mapping]] = ...) -> None: ...

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
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class RemoveSecretRequest(_message.Message):
    __slots__ = ("name", "mutation")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    mutation: Mutation
    def __init__(self, name: _Optional[str] = ..., mutation: _Optional[_Union[Mutation, _Mapping]] = ...) -> None: ...

class RemoveSecretResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PauseRequest(_message.Message):
    __slots__ = ("service", "mutation")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    service: str
    mutation: Mutation
    def __init__(self, service: _Optional[str] = ..., mutation: _Optional[_Union[Mutation, _Mapping]] = ...) -> None: ...

class PauseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResumeRequest(_message.Message):
    __slots__ = ("service", "mutation")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    service: str
    mutation: Mutation
    def __init__(self, service: _Optional[str] = ..., mutation: _Optional[_Union[Mutation, _Mapping]] = ...) -> None: ...

class ResumeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("stop", "mutation")
    STOP_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    stop: bool
    mutation: Mutation
    def __init__(self, stop: _Optional[bool] = ..., mutation: _Optional[_Union[Mutation, _Mapping]] = ...) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[_results_pb2.ServiceResult]
    def __init__(self, results: _Optional[_Iterable[_Union[_results_pb2.ServiceResult, _Mapping]]] = ...) -> None: ...

class TakeSnapshotRequest(_message.Message):
    __slots__ = ("mutation",)
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    mutation: Mutation
    def __init__(self, mutation: _Optional[_Union[Mutation, _Mapping]] = ...) -> None: ...

class TakeSnapshotResponse(_message.Message):
    __slots__ = ("snapshot",)
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    snapshot: _results_pb2.SnapshotInfo
    def __init__(self, snapshot: _Optional[_Union[_results_pb2.SnapshotInfo, _Mapping]] = ...) -> None: ...

class ListSnapshotsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSnapshotsResponse(_message.Message):
    __slots__ = ("snapshots",)
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    snapshots: _containers.RepeatedCompositeFieldContainer[_results_pb2.SnapshotInfo]
    def __init__(self, snapshots: _Optional[_Iterable[_Union[_results_pb2.SnapshotInfo, _Mapping]]] = ...) -> None: ...

class RestoreSnapshotRequest(_message.Message):
    __slots__ = ("path", "mutation")
    PATH_FIELD_NUMBER: _ClassVar[int]
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    path: str
    mutation: Mutation
    def __init__(self, path: _Optional[str] = ..., mutation: _Optional[_Union[Mutation, _Mapping]] = ...) -> None: ...

class RestoreSnapshotResponse(_message.Message):
    __slots__ = ("snapshot",)
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    snapshot: _results_pb2.SnapshotInfo
    def __init__(self, snapshot: _Optional[_Union[_results_pb2.SnapshotInfo, _Mapping]] = ...) -> None: ...
