"""Real podman for tests: where it runs, the image, a registry, a REST service; skip or fail where it cannot.

Skipped with the reason where podman cannot run; in CI (`QD_CI=1`) that is a failure instead. Everything a test
makes carries a random prefix and is removed with it, so that suites may run side by side.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import psutil
import pytest

IMAGE = "localhost/qd-test:v1"
IMAGE_2 = "localhost/qd-test:v2"
_APPLETS = ("sh", "sleep", "cat", "echo", "httpd", "nc", "ls", "id", "touch", "true", "false", "wget", "kill")
_CONF = Path("/tmp") / f"qd-test-containers-{os.getuid()}.conf"
_CONF_TEXT = """[containers]
default_ulimits = ["nofile=20000:20000", "nproc=10000:10000"]
[engine]
runtime = "runc"
"""


def podman(*arguments: str, check: bool = True, stdin: bytes | None = None) -> str:
    """Run podman and give its output."""
    done = subprocess.run(["podman", *arguments], capture_output=True, input=stdin, timeout=60)
    if check and done.returncode != 0:
        raise AssertionError(f"podman {' '.join(arguments)}: {done.stderr.decode()}")
    return done.stdout.decode().strip()


def require_podman() -> None:
    """Skip the test (in CI: fail it) where podman cannot run containers."""
    if reason := _why_not():
        if os.environ.get("QD_CI") == "1":
            pytest.fail(f"podman must run here: {reason}", pytrace=False)
        pytest.skip(f"needs real podman: {reason}")


@cache
def _why_not() -> str:
    if shutil.which("podman") is None:
        return "podman is not installed"
    if os.getuid() != 0:
        return "not root"
    if not Path("/bin/busybox").exists():
        return "busybox-static is not installed"
    if "CONTAINERS_CONF" not in os.environ and shutil.which("runc"):
        _CONF.write_text(_CONF_TEXT)
        os.environ["CONTAINERS_CONF"] = str(_CONF)
    try:
        for image in (IMAGE, IMAGE_2):
            if subprocess.run(["podman", "image", "exists", image], timeout=30).returncode != 0:
                podman("import", "--change", f"LABEL version={image[-2:]}", "-", image, stdin=_root())
        podman("run", "--rm", "--network", "none", IMAGE, "/bin/true")
    except (AssertionError, subprocess.SubprocessError, OSError) as error:
        return str(error)[:500]
    return ""


def _root() -> bytes:
    """A root file system of busybox alone, as a tar."""
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
        for name in _APPLETS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for folder in ("tmp", "etc", "run"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
    return buffer.getvalue()


def free_port() -> int:
    """A TCP port nobody listens on, below those that the kernel gives to connections (`ip_local_port_range`): it stays
    free until it is used, unless another test draws the very same."""
    for _ in range(1000):
        port = 15_000 + secrets.randbelow(17_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port
    raise AssertionError("no port between 15000 and 32000 is free")


@contextlib.contextmanager
def prefix(word: str = "qdt") -> Iterator[str]:
    """A name for a service; every container, volume and secret that begins with it is removed at the end."""
    name = f"{word}{secrets.token_hex(3)}"
    try:
        yield name
    finally:
        sweep(name)


def sweep(name: str) -> None:
    """Remove everything of podman's whose name begins with `name`."""
    if found := [each for each in podman("ps", "-a", "--format", "{{.Names}}").split() if each.startswith(name)]:
        # With what uses its network, and its anonymous volumes: podman would leave them otherwise.
        podman("rm", "-f", "-v", "--depend", "-t", "0", *found, check=False)
    for kind in ("volume", "secret"):
        if left := [each for each in podman(kind, "ls", "--format", "{{.Name}}").split() if each.startswith(name)]:
            podman(kind, "rm", *left, check=False)


@contextlib.contextmanager
def image_with_volume(name: str) -> Iterator[str]:
    """An image of its own that declares a volume at /data: every container of it has an anonymous one."""
    image = f"localhost/{name}:v1"
    podman("import", "--change", "VOLUME /data", "-", image, stdin=_root())
    try:
        yield image
    finally:
        sweep(name)
        podman("rmi", "-f", image, check=False)


def end_unseen(name: str) -> None:
    """Kill a container's process and its conmon, as the OOM killer may: podman goes on calling it running."""
    found = podman("inspect", "--format", "{{.State.ConmonPid}} {{.State.Pid}}", name).split()
    for pid in map(int, found):
        # Conmon first: it would tell podman.
        os.kill(pid, signal.SIGKILL)
    for pid in map(int, found):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            psutil.Process(pid).wait(10)


def ended(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and make it where it does not."""
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def service(folder: Path) -> Iterator[Path]:
    """A libpod REST service of its own; its socket."""
    path = folder / "podman.sock"
    process = subprocess.Popen(
        ["podman", "system", "service", "--time", "0", f"unix://{path}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(lambda: _connects(path), "podman's service")
        yield path
    finally:
        ended(process)


@dataclass(frozen=True)
class Registry:
    """A local registry; push the test image with `add`."""

    address: str

    def add(self, name: str, image: str = IMAGE) -> str:
        """Put an image there; its reference."""
        reference = f"{self.address}/{name}"
        podman("push", "--tls-verify=false", image, f"docker://{reference}")
        return reference


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[Registry]:
    """A real registry on loopback, without TLS."""
    if shutil.which("docker-registry") is None:
        if os.environ.get("QD_CI") == "1":
            pytest.fail("docker-registry must be installed here", pytrace=False)
        pytest.skip("docker-registry is not installed")
    port = free_port()
    (folder / "registry.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder / 'registry'}}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", str(folder / "registry.yml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(lambda: _listens(port), "the registry")
        yield Registry(f"127.0.0.1:{port}")
    finally:
        ended(process)


def _connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_for(ready: object, what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    assert callable(ready)
    while not ready():
        assert time.monotonic() < end, f"{what} did not come up"
        time.sleep(0.02)
