"""A private certificate authority for one's nodes, and certificates that are reloaded while they serve.

`make_authority` and `issue` write PEM files: keys of mode 0600, certificates 0644. A server certificate
file holds the CA's certificate behind its own, so that `qd node join` can be shown the CA and pin it.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import logging
import os
import secrets
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quarterdeck.errors import Conflict, InternalError, InvalidInput, Unavailable

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

log = logging.getLogger(__name__)
CA_DAYS = 3650
SERVER_DAYS = 397
_BACKDATED = datetime.timedelta(minutes=5)


@dataclass(frozen=True)
class Certificate:
    """What matters of a certificate. `expires_at` in seconds since the epoch, `fingerprint` SHA-256 in hexadecimal."""

    subject: str
    names: tuple[str, ...]
    expires_at: float
    fingerprint: str
    is_authority: bool


def fingerprint(der: bytes) -> str:
    """A certificate's SHA-256 as it is shown: `sha256:` and hexadecimal digits."""
    return "sha256:" + hashlib.sha256(der).hexdigest()


def make_authority(cert: Path, key: Path, *, name: str) -> Certificate:
    """Make a CA. Raises `Conflict` when there is one: nodes that trust it would be lost."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    for file in (cert, key):
        if file.exists():
            raise Conflict(f"{file} is there already; nothing was changed", hint="`qd node init --renew` keeps the CA")
    private = _new_key()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Quarterdeck CA of {name}"[:64])])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(private, hashes.SHA256())
    )
    _write_key(key, private)
    _write(cert, _pem(made), 0o644)
    return describe(made)


def issue(
    ca_cert: Path, ca_key: Path, *, cert: Path, key: Path, hosts: Sequence[str], days: float = SERVER_DAYS
) -> Certificate:
    """Make a server certificate for host names and addresses, in place of the one that is there.

    Raises `InvalidInput` for a host that is none, `InternalError` when the CA cannot be read.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    names = [_general_name(host) for host in hosts]
    if not names:
        raise InvalidInput("a server certificate needs a host", hint="name the node's address with --host")
    try:
        authority = x509.load_pem_x509_certificate(ca_cert.read_bytes())
        signer = serialization.load_pem_private_key(ca_key.read_bytes(), None)
    except PermissionError as error:
        raise InvalidInput(
            f"{error.filename} cannot be read: {error.strerror}; nothing was changed",
            hint="run it as root, or as the user that the CA belongs to",
        ) from error
    except (OSError, ValueError) as error:
        raise InternalError(
            f"the CA in {ca_cert} and {ca_key} cannot be read: {error}", hint="restore both from your copy"
        ) from error
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    private = _new_key()
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hosts[0][:64])]))
        .issuer_name(authority.subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(min(now + datetime.timedelta(days=days), authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),  # type: ignore[arg-type]
            critical=False,
        )
        .sign(signer, hashes.SHA256())
    )
    # Key first: a reloading server that meets the new key with the old certificate keeps its old pair.
    _write_key(key, private)
    _write(cert, _pem(made) + _pem(authority), 0o644)
    return describe(made)


def read_chain(pem: bytes, *, origin: str) -> list[Certificate]:
    """The certificates of a PEM file. Raises `InvalidInput` naming the origin."""
    from cryptography import x509

    try:
        return [describe(each) for each in x509.load_pem_x509_certificates(pem)]
    except ValueError as error:
        raise InvalidInput(f"{origin} holds no PEM certificate: {error}") from error


def describe(certificate: x509.Certificate) -> Certificate:
    """What matters of a certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    names: tuple[str, ...] = ()
    authority = False
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            names = tuple(str(each.value) for each in extension.value)
        elif isinstance(extension.value, x509.BasicConstraints):
            authority = extension.value.ca
    return Certificate(
        certificate.subject.rfc4514_string(),
        names,
        certificate.not_valid_after_utc.timestamp(),
        fingerprint(certificate.public_bytes(serialization.Encoding.DER)),
        authority,
    )


def authority_shown_by(host: str, port: int, *, timeout_seconds: float = 5) -> tuple[str, Certificate]:
    """The CA that a server sends with its own certificate: its PEM text and what it says. Nothing is verified
    here; that is what comparing the fingerprint is for. Blocking.

    Raises `Unavailable` when the server does not answer, or shows no CA.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host, port), timeout=timeout_seconds) as raw,
            context.wrap_socket(raw, server_hostname=host) as tls,
        ):
            chain = _unverified_chain(tls)
    except OSError as error:
        raise Unavailable(f"{host}:{port} does not answer with TLS: {error}", hint="is `qd node serve` up?") from error
    for der in chain:
        pem = ssl.DER_cert_to_PEM_cert(der)
        (found,) = read_chain(pem.encode(), origin=f"{host}:{port}")
        if found.is_authority:
            return pem, found
    raise Unavailable(
        f"{host}:{port} does not show its CA", hint="copy the CA's certificate from the node and use --ca FILE"
    )


def _unverified_chain(tls: ssl.SSLSocket) -> list[bytes]:
    # Public since Python 3.13; before, the same method lies one object deeper and gives objects.
    public: Any = getattr(tls, "get_unverified_chain", None)
    if public is not None:
        return list(public())
    import _ssl

    inner: Any = getattr(tls, "_sslobj")  # noqa: B009  # typeshed does not tell of it
    return [each.public_bytes(_ssl.ENCODING_DER) for each in inner.get_unverified_chain()]


class ReloadingPair:
    """A key and a certificate in files, read again when they change.

    A pair that does not fit or cannot be read is told once in the log; the old one goes on.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert = cert
        self._key = key
        self._stamp: tuple[object, ...] = ()
        self._pair = self._read()
        self._stamp = self._look()

    @property
    def pair(self) -> tuple[bytes, bytes]:
        """Private key and certificate chain, PEM, as last read."""
        return self._pair

    def changed(self) -> bool:
        """Look at the files; whether there is a new pair. Cheap, from any thread."""
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            fresh = self._read()
        except InvalidInput as error:
            log.warning("the certificate was not reloaded, the old one goes on: %s", error.message)
            return False
        if fresh == self._pair:
            return False
        self._pair = fresh
        log.info("the certificate in %s was reloaded", self._cert)
        return True

    def _look(self) -> tuple[object, ...]:
        try:
            return tuple((s.st_mtime_ns, s.st_ino, s.st_size) for s in (self._cert.stat(), self._key.stat()))
        except OSError:
            return ()

    def _read(self) -> tuple[bytes, bytes]:
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._cert, self._key)
            return self._key.read_bytes(), self._cert.read_bytes()
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(
                f"the certificate {self._cert} with the key {self._key} cannot be used: {error}",
                hint="`qd node init` makes both",
            ) from error


def _new_key() -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _usage(*, authority: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not host.isascii() or not host or any(c in host for c in " /:@"):
        raise InvalidInput(f"{host!r} is neither a host name nor an address", hint="without scheme and port")
    return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    from cryptography.hazmat.primitives import serialization

    data = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(path, data, 0o600)


def _write(path: Path, data: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
