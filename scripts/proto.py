"""Lints the .proto files with buf and makes the Python modules of `quarterdeck.node.proto` anew.

    python scripts/proto.py [--check]

With --check nothing is written; it fails when what is committed is not what would be made.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "src" / "quarterdeck" / "node" / "proto"
PACKAGE = "quarterdeck/node/v1"
HEADER = "# Made by scripts/proto.py (`make proto`); edit the .proto files instead.\n"


def generate(target: Path) -> dict[str, str]:
    """The generated files by name."""
    import grpc_tools
    from grpc_tools import protoc

    sources = sorted(str(f.relative_to(ROOT)) for f in (ROOT / PACKAGE).glob("*.proto"))
    include = Path(grpc_tools.__file__).parent / "_proto"
    code = protoc.main(
        [
            "protoc",
            f"-I{ROOT}",
            f"-I{include}",
            f"--python_out={target}",
            f"--pyi_out={target}",
            f"--grpc_python_out={target}",
            *sources,
        ]
    )
    if code:
        sys.exit(f"proto: protoc failed ({code})")
    made = {}
    for file in sorted((target / PACKAGE).iterdir()):
        # Only node and account have services.
        if file.name.endswith("_pb2_grpc.py") and "Stub" not in file.read_text():
            continue
        # protoc imports by the proto's package; the modules lie in quarterdeck.node.proto.
        text = re.sub(r"\bfrom quarterdeck\.node\.v1 import", "from quarterdeck.node.proto import", file.read_text())
        made[file.name] = HEADER + text
    return made


def main() -> None:
    """Lint, then write or compare."""
    check = "--check" in sys.argv
    buf = Path(sys.executable).parent / "buf"
    subprocess.run([str(buf if buf.exists() else "buf"), "lint", str(ROOT)], check=True)
    with tempfile.TemporaryDirectory() as folder:
        made = generate(Path(folder))
    if check:
        stale = [
            name for name, text in made.items() if not (ROOT / name).is_file() or (ROOT / name).read_text() != text
        ]
        if stale:
            sys.exit(f"proto: not what the .proto files say: {', '.join(stale)}; run `make proto`")
        return
    for name, text in made.items():
        (ROOT / name).write_text(text)
    print(f"proto: wrote {len(made)} modules")


if __name__ == "__main__":
    main()
