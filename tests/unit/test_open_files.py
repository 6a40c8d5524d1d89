"""The limit of open files, in a process of its own: a limit that was lowered for good cannot be raised again."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from quarterdeck.proctree import allow_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
allow_open_files(int(sys.argv[3]))
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "after"),
    [(256, 900, 800, "800 900"), (256, 900, 5000, "900 900"), (500, 900, 300, "500 900")],
)
def test_it_is_raised_as_far_as_the_system_lets_and_never_lowered(
    soft: int, hard: int, wanted: int, after: str
) -> None:
    command = [sys.executable, "-c", PROGRAM, str(soft), str(hard), str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == after
