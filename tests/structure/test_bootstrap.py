"""The set-up: what it refuses and how it says so, and that it does nothing when nothing changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from structure.tree import ROOT

SCRIPT = ROOT / "scripts" / "bootstrap.py"


def run(venv: Path, *profiles: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """The script in a process of its own, after some lines that change the interpreter under it."""
    begin = f"import sys, runpy\n{before}\nsys.argv = {['bootstrap.py', *profiles]!r}\n"
    program = f"{begin}runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    environment = {**os.environ, "QD_VENV": str(venv)}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)


def test_an_old_python_is_told(tmp_path: Path) -> None:
    done = run(tmp_path / "v", "run", before="sys.version_info = (3, 10, 4, 'final', 0)\nsys.version = '3.10.4 x'")
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed, this is 3.10.4" in done.stderr
    assert "make PYTHON=python3.11" in done.stderr
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_without_venv_is_told_with_the_remedy(tmp_path: Path, module: str) -> None:
    done = run(tmp_path / "v", "run", before=f"sys.modules[{module!r}] = None")
    assert done.returncode == 1
    assert f"lacks its module {module}" in done.stderr
    assert "apt-get install python3" in done.stderr
    assert not (tmp_path / "v").exists()


def test_a_folder_that_is_no_venv_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    done = run(tmp_path, "run")
    assert done.returncode == 1
    assert "no virtual environment" in done.stderr
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_an_unknown_profile_is_told(tmp_path: Path) -> None:
    done = run(tmp_path / "v", "rum")
    assert done.returncode == 1
    assert "no such profile: rum" in done.stderr


def test_nothing_is_done_when_nothing_changed(tmp_path: Path) -> None:
    """Every target runs it first, so it must be quiet and fast; what the dev profile has, the run profile needs not."""
    stamp = f"import runpy, sys; print(runpy.run_path({str(SCRIPT)!r})['fingerprint']('dev'), end='')"
    made = subprocess.run([sys.executable, "-c", stamp], capture_output=True, text=True, check=True)
    # As in `run` above: the interpreter is part of the fingerprint.
    (tmp_path / ".quarterdeck-dev").write_text(made.stdout)
    for profile in ("dev", "run"):
        done = run(tmp_path, profile)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (tmp_path / ".quarterdeck-dev").write_text("of another lock")
    assert run(tmp_path, "dev").returncode == 1  # it would begin, and this is no venv
