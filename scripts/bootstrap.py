"""Makes .venv from the locks: exact versions with hashes, nothing else. Fast when nothing changed.

    python3 scripts/bootstrap.py [run|dev|claude|codex ...]

Needs only Python 3.11 or newer with venv. Each profile has a lock in locks/; `dev` holds all of `run`.
QD_VENV names another folder than .venv (used to test several interpreters side by side).
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROFILES = ("run", "dev", "claude", "codex")
BORN_IN = ".quarterdeck-born"
SAY_EVERY_SECONDS = 10


def give_up(problem: str, remedy: str) -> None:
    """End with what is wrong, what remains, and what to do."""
    sys.exit(f"bootstrap: {problem}\nbootstrap: nothing is marked as installed; {remedy}")


def fingerprint(profile: str) -> str:
    """What the installed state depends on: the lock, the project's own metadata, the interpreter."""
    digest = hashlib.sha256(f"{sys.version_info[:3]} {sys.executable} {ROOT}".encode())
    for file in (ROOT / "locks" / f"{profile}.txt", ROOT / "pyproject.toml", Path(__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def stamped(venv: Path, profile: str) -> bool:
    """Whether this profile is installed as its lock says."""
    stamp = venv / f".quarterdeck-{profile}"
    return stamp.is_file() and stamp.read_text() == fingerprint(profile)


def check_machine() -> None:
    """Refuse early, and say how to mend it."""
    if sys.version_info < (3, 11):  # noqa: UP036 (told here to those who have an older one)
        give_up(
            f"Python 3.11 or newer is needed, this is {sys.version.split()[0]} ({sys.executable})",
            "install one and run `make PYTHON=python3.11 ...`",
        )
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        give_up(
            f"{sys.executable} lacks its module {' and '.join(missing)}, which makes virtual environments",
            f"on Debian and Ubuntu: apt-get install python{version}-venv",
        )


def make_venv(venv: Path) -> None:
    """A venv of this interpreter at this place; one of another interpreter, or half a one, is made anew."""
    python = venv / "bin" / "python"
    born = venv / BORN_IN
    identity = f"{ROOT} {sys.version_info.major}.{sys.version_info.minor}"
    whole = python.exists() and not subprocess.run([str(python), "-c", "import pip"], capture_output=True).returncode
    if whole and (not born.exists() or born.read_text() == identity):
        born.write_text(identity)
        return
    if venv.exists() and any(venv.iterdir()) and not (venv / "pyvenv.cfg").exists():
        give_up(f"{venv} holds something that is no virtual environment", "remove it, or set QD_VENV")
    shutil.rmtree(venv, ignore_errors=True)
    done = subprocess.run([sys.executable, "-m", "venv", str(venv)], capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(venv, ignore_errors=True)
        give_up(f"{sys.executable} -m venv failed: {(done.stdout + done.stderr).strip()}", "mend it and run this again")
    born.write_text(identity)


def pip(python: Path, what: str, *arguments: str, total: int = 0) -> None:
    """Run pip with a line of progress: every package on a terminal, now and then elsewhere."""
    command = [
        str(python),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "--no-deps",
        "--progress-bar",
        "off",
        *arguments,
    ]
    environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore", "PYTHONUNBUFFERED": "1"}
    live = sys.stdout.isatty()
    kept, seen, said = [], 0, time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    for line in process.stdout:
        kept = [*kept[-40:], line.rstrip()]
        first = line.split(" ", 1)[0]
        seen += first in ("Collecting", "Requirement")
        if first == "Installing":
            state = "installing ..."
        elif first in ("Collecting", "Requirement") and total:
            state = f"{min(seen, total)}/{total}"
        else:
            continue
        if live:
            print(f"\r\033[Kbootstrap: {what} {state}", end="", flush=True)
        elif time.monotonic() - said > SAY_EVERY_SECONDS or first == "Installing":
            said = time.monotonic()
            print(f"bootstrap: {what} {state}", flush=True)
    if live:
        print("\r\033[K", end="", flush=True)
    if process.wait():
        print("\n".join(kept), file=sys.stderr)
        give_up(
            f"pip failed ({process.returncode}) while installing {what}, see above",
            "run it again when the cause is mended",
        )


def pins(lock: Path) -> int:
    """How many packages a lock names; those of other platforms are among them."""
    return sum("==" in line and not line.startswith((" ", "#")) for line in lock.read_text().splitlines())


def install(venv: Path, profiles: list[str]) -> None:
    """Bring a venv to what the locks of these profiles say."""
    began = time.monotonic()
    print(f"bootstrap: setting up {venv.name} ({', '.join(profiles)}), about a minute the first time ...", flush=True)
    check_machine()
    make_venv(venv)
    python = venv / "bin" / "python"
    for profile in profiles:
        lock = ROOT / "locks" / f"{profile}.txt"
        pip(python, profile, "--require-hashes", "-r", str(lock), total=pins(lock))
    pip(python, "quarterdeck", "--no-build-isolation", "-e", str(ROOT))
    for profile in profiles:
        (venv / f".quarterdeck-{profile}").write_text(fingerprint(profile))
    print(f"bootstrap: ready in {time.monotonic() - began:.0f} s", flush=True)


def main(profiles: list[str]) -> None:
    """Install what is not there yet; two at once wait for each other."""
    unknown = [p for p in profiles if p not in PROFILES]
    if unknown:
        sys.exit(f"bootstrap: no such profile: {', '.join(unknown)} (there are {', '.join(PROFILES)})")
    venv = Path(os.environ.get("QD_VENV") or ROOT / ".venv").absolute()

    def missing() -> list[str]:
        wanted = [p for p in profiles if p != "run" or not stamped(venv, "dev")]
        return [p for p in wanted if not stamped(venv, p)]

    if not missing():
        return
    with Path(__file__).open() as own:
        fcntl.flock(own, fcntl.LOCK_EX)
        if todo := missing():
            install(venv, todo)


if __name__ == "__main__":
    main(sys.argv[1:] or ["run"])
