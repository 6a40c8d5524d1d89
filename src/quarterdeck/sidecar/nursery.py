"""`python -m quarterdeck.sidecar.nursery`: a process from which sidecars are forked, ready in milliseconds.

Importing what a sidecar needs takes 0.7 s of one core, most of it the ACP SDK's models. The nursery does
that once; each fork has it at once and shares its memory. It is the hub's helper, not its state: sidecars
live on without it, and where it cannot be (no Linux) they are started one by one.

On standard input comes one JSON line per sidecar, `{"folder", "env", "log_level"}`; the answer is
`{"pid": N}` or `{"error": TEXT}`. The first line of the output is `{"ready": true}`. It ends with its input.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
from functools import partial
from pathlib import Path

from quarterdeck import detached
from quarterdeck.sidecar.__main__ import serve
from quarterdeck.sidecar.spec import LOG_FILE


def main() -> None:
    """Serve until the input ends."""
    _import_everything()
    # Ended sidecars are collected by the kernel; who they belong to asks by pid and start time.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    _say({"ready": True})
    for line in sys.stdin:
        try:
            request = json.loads(line)
            folder = Path(request["folder"])
            pid = detached.fork(
                partial(serve, folder, tcp=None, log_level=request["log_level"]),
                cwd=folder,
                env=request["env"],
                log=folder / LOG_FILE,
            )
            _say({"pid": pid})
        except (OSError, ValueError, KeyError) as error:
            _say({"error": f"{type(error).__name__}: {error}"})


def _import_everything() -> None:
    import acp  # noqa: F401

    import quarterdeck.sidecar.main
    import quarterdeck.sidecar.providers.acp
    import quarterdeck.sidecar.providers.claude_code
    import quarterdeck.sidecar.providers.command  # noqa: F401


def _say(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
