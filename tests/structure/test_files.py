"""Files stay short, and none tells where it was written."""

from __future__ import annotations

import re
import runpy

from structure.tree import ROOT, tracked

long_files = runpy.run_path(str(ROOT / "scripts" / "long_files.py"))
# Put together here, so that this file does not hold what it looks for.
FOLDERS = ("/ro" + "ot/", "/wo" + "rk/(?:main|shared|wt-|[.])")
MACHINE = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})[\w.-]*")
REGISTRIES = re.compile(
    "|".join(map(re.escape, ("pypi" + ".org", "python" + "hosted.org", "npm" + "js.org", "deb." + "debian.org")))
)
TEXT = {".py", ".md", ".sh", ".toml", ".txt", ".yml", ".yaml", ".json", ".html", ".js", ".css", ".cfg", ".ini", ""}


def texts() -> dict[str, str]:
    """Path to text, of every text file of the repository."""
    return {
        str(file.relative_to(ROOT)): file.read_text(encoding="utf-8", errors="replace")
        for file in tracked()
        if file.suffix in TEXT
    }


def test_no_file_is_too_long() -> None:
    assert long_files["longer_than"](long_files["REFUSED_OVER"]) == {}


def test_no_path_of_a_machine_is_in_the_repository() -> None:
    found = {f"{name}: {match.group()}" for name, text in texts().items() for match in MACHINE.finditer(text)}
    assert found == set()


def test_no_registry_is_named() -> None:
    found = {f"{name}: {match.group()}" for name, text in texts().items() for match in REGISTRIES.finditer(text)}
    assert found == set()


def test_scripts_can_be_run() -> None:
    """What begins with #! is executable, and ends with a line end."""
    wrong = []
    for file in tracked():
        data = file.read_bytes()
        if data.startswith(b"#!") and file.suffix in (".sh", ".bash", "") and not file.stat().st_mode & 0o100:
            wrong.append(str(file.relative_to(ROOT)))
        assert not data or file.suffix not in TEXT or data.endswith(b"\n"), file
    assert wrong == []
