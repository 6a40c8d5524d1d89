"""The tokens of the person at the command line, and the audit file."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
from pathlib import Path

import pytest

from quarterdeck.auth.audit import AuditFile, AuditRecord
from quarterdeck.auth.credentials import Credential, Credentials, ago
from quarterdeck.errors import InternalError, Unauthenticated


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return Credentials(tmp_path / "c" / "credentials.json")


def test_a_token_is_kept_private(credentials: Credentials, tmp_path: Path) -> None:
    credentials.put("n1", Credential("secret-token", "eva", "admin", 2000.0))
    file = tmp_path / "c" / "credentials.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert credentials.get("n1") == Credential("secret-token", "eva", "admin", 2000.0)
    assert [each.name for each in file.parent.iterdir() if not each.name.endswith(".lock")] == [file.name]
    assert credentials.remove("n1")
    assert not credentials.remove("n1")


def test_expiry_is_told_before_anything_is_sent(credentials: Credentials) -> None:
    credentials.put("n1", Credential("t", expires_at=2000.0))
    assert credentials.valid("n1", now=1990.0).token == "t"
    with pytest.raises(Unauthenticated, match="the token for n1 expired 5 min ago; nothing was sent") as caught:
        credentials.valid("n1", now=2300.0)
    assert caught.value.hint == "`qd login n1`"
    with pytest.raises(Unauthenticated, match="there is no token for n2"):
        credentials.valid("n2")


def test_a_file_that_others_can_read_or_that_is_damaged_is_not_used(credentials: Credentials, tmp_path: Path) -> None:
    credentials.put("n1", Credential("t"))
    file = tmp_path / "c" / "credentials.json"
    file.chmod(0o640)
    with pytest.raises(InternalError, match="others can read"):
        credentials.get("n1")
    file.chmod(0o600)
    file.write_text('{"n1": 3}')
    with pytest.raises(InternalError, match="damaged"):
        credentials.get("n1")
    file.unlink()
    file.symlink_to("/etc/hostname")
    with pytest.raises(InternalError, match="cannot be read"):
        credentials.get("n1")


def _put(path: Path, name: str) -> None:
    Credentials(path).put(name, Credential(name))


def test_two_logins_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_put, args=(path, f"n{n}")) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert set(Credentials(path).all()) == {"n0", "n1", "n2", "n3"}


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (300, "5 min"), (7200, "2 h"), (400_000, "5 days")])
def test_spans_are_said_as_people_do(seconds: float, text: str) -> None:
    assert ago(seconds) == text


def record(number: int, detail: str = "") -> AuditRecord:
    return AuditRecord(1.0, "/s/M", "eva", "ipv4:127.0.0.1:1", "OK", float(number), detail=detail)


def test_the_audit_file_is_private_rotates_and_hides_tokens(tmp_path: Path) -> None:
    path = tmp_path / "audit" / "audit.jsonl"
    audit = AuditFile(path, rotate_bytes=1000, keep=2)
    for number in range(40):
        audit.write(record(number, detail="Bearer abcdef1234567890"))
    audit.close()
    audit.close()
    files = sorted(each.name for each in path.parent.iterdir())
    assert files == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]
    assert all((path.parent / name).stat().st_mode & 0o777 == 0o600 for name in files)
    lines = [json.loads(line) for name in reversed(files) for line in (path.parent / name).read_text().splitlines()]
    assert [each["duration_ms"] for each in lines] == [float(n) for n in range(40 - len(lines), 40)]
    assert "abcdef1234567890" not in "".join((path.parent / name).read_text() for name in files)


def test_a_full_disk_does_not_refuse_calls(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    full = tmp_path / "audit.jsonl"
    full.symlink_to("/dev/full")
    audit = AuditFile(full)
    with caplog.at_level("INFO", "quarterdeck.audit"):
        audit.write(record(1))
    assert "cannot be written" in caplog.text
    assert '"caller":"eva"' in caplog.text
    audit.close()


def test_audit_that_cannot_rotate_keeps_its_file_and_writes_into_no_other(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = AuditFile(path, rotate_bytes=300, keep=2)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(each) for each in os.listdir("/proc/self/fd"))
    try:
        # No descriptor is left, as when very many connections are open.
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        for number in range(10):
            audit.write(AuditRecord(1.0, f"/m{number}", "eva", "peer", "OK", 1.0))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    kept = [json.loads(line)["method"] for line in path.read_text().splitlines()]
    assert kept == [f"/m{number}" for number in range(10)]
    # What is opened next must not be what the audit writes into.
    others = [(tmp_path / f"other{number}").open("w") for number in range(highest + 2)]
    for number in range(10, 30):
        audit.write(AuditRecord(1.0, f"/m{number}", "eva", "peer", "OK", 1.0))
    for other in others:
        other.close()
        assert Path(other.name).read_text() == ""
    # Once there are descriptors again it rotates.
    assert len(path.read_bytes()) < 300
    assert (tmp_path / "audit.jsonl.1").exists()
    audit.close()
