"""The private CA, and certificates that are reloaded."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest

from quarterdeck.errors import Conflict, InternalError, InvalidInput, Unavailable
from quarterdeck.node import pki


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pki.make_authority(tmp_path / "ca.pem", tmp_path / "ca.key", name="n1")
    return tmp_path


def issue(folder: Path, *hosts: str, days: float = 30) -> pki.Certificate:
    return pki.issue(folder / "ca.pem", folder / "ca.key", cert=folder / "n.pem", key=folder / "n.key",
                     hosts=hosts or ("localhost", "127.0.0.1"), days=days)  # fmt: skip


def test_a_certificate_is_for_its_hosts_and_behind_it_stands_the_ca(folder: Path) -> None:
    made = issue(folder, "node.example", "10.0.0.7", "::1", days=2)
    assert made.names == ("node.example", "10.0.0.7", "::1")
    assert 1.9 < (made.expires_at - time.time()) / 86400 <= 2
    leaf, ca = pki.read_chain((folder / "n.pem").read_bytes(), origin="n.pem")
    assert not leaf.is_authority
    assert ca.is_authority
    assert ca.fingerprint.startswith("sha256:")
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.load_cert_chain(folder / "n.pem", folder / "n.key")
    assert (folder / "ca.key").stat().st_mode & 0o777 == 0o600
    assert (folder / "n.key").stat().st_mode & 0o777 == 0o600


def test_a_ca_is_never_overwritten(folder: Path) -> None:
    before = (folder / "ca.key").read_bytes()
    with pytest.raises(Conflict, match="is there already"):
        pki.make_authority(folder / "ca.pem", folder / "ca.key", name="n1")
    assert (folder / "ca.key").read_bytes() == before


@pytest.mark.parametrize("host", ["", "a b", "http://x", "user@x", "ü.example"])
def test_a_host_that_is_none_is_refused(folder: Path, host: str) -> None:
    with pytest.raises(InvalidInput, match="neither a host name nor an address"):
        issue(folder, host)


def test_a_lost_ca_is_told(folder: Path) -> None:
    (folder / "ca.key").write_text("nonsense")
    with pytest.raises(InternalError, match="cannot be read"):
        issue(folder)


def test_a_pair_is_reloaded_when_it_fits_and_kept_when_not(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    issue(folder)
    pair = pki.ReloadingPair(folder / "n.pem", folder / "n.key")
    first = pair.pair
    assert not pair.changed()
    good = (folder / "n.key").read_bytes()
    (folder / "n.key").write_text("half a ke")
    assert not pair.changed()
    assert pair.pair == first
    assert "not reloaded" in caplog.text
    caplog.clear()
    assert not pair.changed()
    assert not caplog.text
    (folder / "n.key").write_bytes(good)
    assert not pair.changed()
    issue(folder)
    assert pair.changed()
    assert pair.pair != first
    (folder / "n.pem").unlink()
    assert not pair.changed()


def test_a_pair_that_never_fitted_is_an_error(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be used"):
        pki.ReloadingPair(folder / "none.pem", folder / "none.key")


def test_nobody_there_is_told() -> None:
    with pytest.raises(Unavailable, match="does not answer with TLS"):
        pki.authority_shown_by("127.0.0.1", 1, timeout_seconds=1)
