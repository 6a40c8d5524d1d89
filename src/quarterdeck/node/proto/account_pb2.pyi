# Made by scripts/proto.py (`make proto`); edit the .proto files instead.
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message

DESCRIPTOR: _descriptor.FileDescriptor

class LoginRequest(_message.Message):
    __slots__ = ("password", "user")
    USER_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    user: str
    password: str
    def __init__(self, user: str | None = ..., password: str | None = ...) -> None: ...

class LoginResponse(_message.Message):
    __slots__ = ("caller", "token")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    token: str
    caller: Caller
    def __init__(self, token: str | None = ..., caller: Caller | _Mapping | None = ...) -> None: ...

class LogoutRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LogoutResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WhoAmIRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WhoAmIResponse(_message.Message):
    __slots__ = ("caller",)
    CALLER_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    def __init__(self, caller: Caller | _Mapping | None = ...) -> None: ...

class Caller(_message.Message):
    __slots__ = ("expires_at", "issuer", "role", "subject")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    subject: str
    role: str
    issuer: str
    expires_at: float
    def __init__(
        self,
        subject: str | None = ...,
        role: str | None = ...,
        issuer: str | None = ...,
        expires_at: float | None = ...,
    ) -> None: ...
