"""Real identity services on loopback for tests: an OpenID Connect provider and an introspection service."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

AUDIENCE = "quarterdeck"


class Provider:
    """Publishes keys, signs tokens, answers introspection; everything can be made to misbehave."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: dict[str, Any] = {}
        self.published: list[str] = []
        self.asked: list[str] = []
        self.broken: str | None = None
        self.known: dict[str, dict[str, Any]] = {}
        self.discovered_issuer: str | None = None
        self.client = ("node", "client-secret")
        self.add_key("k1")

    def add_key(self, key_id: str, kind: str = "EC", *, publish: bool = True) -> None:
        self.keys[key_id] = (
            ec.generate_private_key(ec.SECP256R1()) if kind == "EC" else rsa.generate_private_key(65537, 2048)
        )
        if publish:
            self.published.append(key_id)

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        found = {
            "iss": self.url, "aud": AUDIENCE, "sub": "eva", "groups": ["admins"],
            "iat": now, "nbf": now - 1, "exp": now + 300, "jti": uuid.uuid4().hex, **changes,
        }  # fmt: skip
        return {key: value for key, value in found.items() if value is not None}

    def jwt(self, key_id: str = "k1", *, headers: dict[str, Any] | None = None, **changes: Any) -> str:
        key = self.keys[key_id]
        algorithm = "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "RS256"
        return jwt.encode(self.claims(**changes), key, algorithm=algorithm, headers={"kid": key_id, **(headers or {})})

    def opaque(self, **changes: Any) -> str:
        token = uuid.uuid4().hex
        self.known[token] = {"active": True, **self.claims(**changes)}
        return token

    def jwks(self) -> dict[str, Any]:
        found = []
        for key_id in self.published:
            public = self.keys[key_id].public_key()
            algorithm: Any = (
                jwt.algorithms.ECAlgorithm
                if isinstance(public, ec.EllipticCurvePublicKey)
                else jwt.algorithms.RSAAlgorithm
            )
            found.append({**algorithm.to_jwk(public, as_dict=True), "kid": key_id, "use": "sig"})
        return {"keys": [*found, {"kty": "strange", "kid": "odd", "use": "sig"}, "nonsense", {"kid": 3}]}

    def answer(self, method: str, path: str, form: dict[str, str], authorization: str) -> tuple[int, Any]:
        self.asked.append(path)
        if self.broken:
            return (500, {}) if self.broken == "500" else (200, self.broken)
        if path == "/.well-known/openid-configuration":
            return 200, {"issuer": self.discovered_issuer or self.url, "jwks_uri": f"{self.url}/keys"}
        if path == "/keys":
            return 200, self.jwks()
        basic = base64.b64encode(":".join(self.client).encode()).decode()
        if path == "/introspect":
            if authorization != f"Basic {basic}":
                return 401, {}
            return 200, self.known.get(form.get("token", ""), {"active": False})
        if path == "/token":
            if form.get("grant_type") == "password" and (form["username"], form["password"]) != ("eva", "pw of eva"):
                return 400, {"error": "invalid_grant", "error_description": "wrong user or password"}
            return 200, {"access_token": self.jwt(), "token_type": "Bearer", "expires_in": 300}
        return 404, {}


@contextlib.contextmanager
def provider() -> Iterator[Provider]:
    """A provider that serves until the end of the block."""
    found = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._serve({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            self._serve({key: values[0] for key, values in parse_qs(body).items()})

        def _serve(self, form: dict[str, str]) -> None:
            status, body = found.answer(self.command, self.path, form, self.headers.get("authorization", ""))
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
