"""Makes .venv from the locks: exact versions with hashes, nothing else. Fast when nothing changed.

    python3 scripts/bootstrap.py [run|dev|claude|codex ...]

Needs only Python 3.11 or newer with venv. Each profile has a lock in locks/; `dev` holds all of `run`.
QD_VENV names another folder than .venv (used to test several interpreters side by side).
"""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROFILES = ("run", "dev", "claude", "codex")


def fingerprint(profile: str) -> str:
    """What the installed state depends on: the lock, the project's own metadata, the interpreter."""
    digest = hashlib.sha256(f"{sys.version_info[:3]} {sys.executable} {ROOT}".encode())
    for file in (ROOT / "locks" / f"{profile}.txt", ROOT / "pyproject.toml", Path(__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def stamped(stamp: Path, profile: str) -> bool:
    return stamp.is_file() and stamp.read_text() == fingerprint(profile)


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT)
    if done.returncode:
        sys.exit(f"bootstrap: failed ({done.returncode}): {' '.join(command)}\n"
                 "bootstrap: nothing is marked as installed; run it again when the cause is mended")


def main(profiles: list[str]) -> None:
    if sys.version_info < (3, 11):
        sys.exit(f"bootstrap: Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    unknown = [p for p in profiles if p not in PROFILES]
    if unknown:
        sys.exit(f"bootstrap: no such profile: {', '.join(unknown)} (there are {', '.join(PROFILES)})")
    venv = Path(os.environ.get("QD_VENV", ROOT / ".venv"))
    python = venv / "bin" / "python"
    stamps = {p: venv / f".quarterdeck-{p}" for p in PROFILES}
    if "run" in profiles and stamped(stamps["dev"], "dev"):
        profiles = [p for p in profiles if p != "run"]
    todo = [p for p in profiles if not stamped(stamps[p], p)]
    if not todo:
        return
    began = time.monotonic()
    print(f"bootstrap: setting up {venv.name} ({', '.join(todo)}) ...", flush=True)
    if not python.exists():
        run(sys.executable, "-m", "venv", "--clear", str(venv))
    for profile in todo:
        lock = str(ROOT / "locks" / f"{profile}.txt")
        run(str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes",
            "--no-deps", "-r", lock)
    run(str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps",
        "--no-build-isolation", "-e", str(ROOT))
    for profile in todo:
        stamps[profile].write_text(fingerprint(profile))
    print(f"bootstrap: ready in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or ["run"])
