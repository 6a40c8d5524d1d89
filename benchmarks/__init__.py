"""`make bench`: what Quarterdeck takes, side by side with others, in one run.

Times are compared within a run only; no test depends on them. See docs/benchmarks.md.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The beds of the tests serve here, too: a hub as a process, its end, simulated sidecars.
if str(ROOT / "tests") not in sys.path:
    sys.path.insert(0, str(ROOT / "tests"))
