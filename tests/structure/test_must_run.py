"""The rule of CI itself: what is marked real_agent or podman may not be skipped there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from structure.tree import ROOT

SAMPLE = """
import pytest

@pytest.mark.real_agent
def test_real():
    pytest.skip("no claude here")

@pytest.mark.skipif(True, reason="no podman here")
@pytest.mark.podman
def test_podman():
    pass

def test_other():
    pytest.skip("not on this platform")

@pytest.mark.real_agent
@pytest.mark.xfail(reason="known", run=False)
def test_known():
    raise AssertionError
"""


def run_sample(folder: Path, ci: bool, text: str = SAMPLE) -> subprocess.CompletedProcess[str]:
    """A real pytest over the sample, with the hooks of this test-suite."""
    (folder / "conftest.py").write_text("from support.must_run import *  # noqa: F403\n")
    (folder / "test_sample.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  real_agent: x\n  podman: x\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "QD_CI"))}
    environment |= {"PYTHONPATH": str(ROOT / "tests"), **({"QD_CI": "1"} if ci else {})}
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_a_skip_is_a_failure_in_ci(tmp_path: Path) -> None:
    done = run_sample(tmp_path, ci=True)
    assert done.returncode == 1
    assert "1 failed, 1 skipped, 1 xfailed, 1 error" in done.stdout, done.stdout
    assert "no claude here" in done.stdout
    assert "no podman here" in done.stdout


def test_elsewhere_a_skip_is_a_skip(tmp_path: Path) -> None:
    done = run_sample(tmp_path, ci=False)
    assert done.returncode == 0
    assert "3 skipped, 1 xfailed" in done.stdout, done.stdout


@pytest.mark.parametrize("ci", [True, False])
def test_a_file_that_skips_itself_is_a_failure_in_ci(tmp_path: Path, ci: bool) -> None:
    done = run_sample(tmp_path, ci, "import pytest\npytest.importorskip('no_such_module_at_all')\n")
    assert ("must run" in done.stdout) == ci, done.stdout
    assert done.returncode == (2 if ci else 5)
