"""Names the files that grow too long: over 400 lines is told, over 550 fails (tests/structure asks, too)."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOLD_OVER = 400
REFUSED_OVER = 550
# Made by protoc.
MADE = ("_pb2.py", "_pb2_grpc.py")


def source_files() -> list[Path]:
    """Every Python file of the repository that git knows or would add."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.py"]
    done = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True)
    names = [name for name in done.stdout.decode().split("\0") if name and not name.endswith(MADE)]
    return [file for name in names if (file := ROOT / name).is_file()]


def longer_than(lines: int) -> dict[str, int]:
    """Path to number of lines, of the files with more lines than that; the longest first."""
    sizes = {str(file.relative_to(ROOT)): len(file.read_bytes().splitlines()) for file in source_files()}
    return {name: size for name, size in sorted(sizes.items(), key=lambda item: -item[1]) if size > lines}


if __name__ == "__main__":
    for name, size in longer_than(TOLD_OVER).items():
        print(f"long file      {name}: {size} lines")
    sys.exit(bool(longer_than(REFUSED_OVER)))
