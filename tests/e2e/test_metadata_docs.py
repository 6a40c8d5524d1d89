"""docs/metadata.md shows what the calls answer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from structure.tree import ROOT


@pytest.mark.slow
def test_the_page_tells_what_a_run_of_now_answers() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "metadata_docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
