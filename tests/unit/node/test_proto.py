"""The generated modules are what the .proto files say, and buf finds nothing wrong with those."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def test_the_wire_is_linted_and_generated_anew() -> None:
    if not (Path(sys.executable).parent / "buf").exists():
        if os.environ.get("QD_CI") == "1":
            pytest.fail("buf must be installed here", pytrace=False)
        pytest.skip("buf is not installed")
    done = subprocess.run([sys.executable, str(ROOT / "scripts/proto.py"), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", ["node_pb2", "node_pb2_grpc", "account_pb2_grpc", "results_pb2", "model_pb2"])
def test_each_module_can_be_imported_first(module: str) -> None:
    code = f"import quarterdeck.node.proto.{module}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
