"""A one-shot command for the command provider: does the `@` lines of its input, tells it as JSON lines or plain."""

import json
import os
import shlex
import subprocess
import sys
import time

from quarterdeck.scripted.script import parse

PLAIN = "--plain" in sys.argv


def tell(**data: object) -> None:
    print(data.get("text", "") if PLAIN else json.dumps(data), flush=True)


def step(name: str, rest: str, whole: str, number: int) -> None:
    if name == "say":
        tell(type="text", text=rest)
    elif name == "write":
        path, _, text = rest.partition(" ")
        with open(path, "w") as file:
            file.write(text.replace("\\n", "\n") + "\n")
    elif name == "run":
        tell(type="tool", id=f"c{number}", title=rest, status="in_progress")
        done = subprocess.run(shlex.split(rest), capture_output=True, text=True, check=False)
        status = "failed" if done.returncode else "completed"
        tell(type="tool", id=f"c{number}", status=status, output=done.stdout + done.stderr)
    elif name == "usage":
        given, out, cost = rest.split()
        tell(type="usage", input_tokens=int(given), output_tokens=int(out), cost_usd=float(cost))
    elif name == "instructions":
        tell(type="text", text=f"instructions: {'found' if rest in whole.split('@')[0] else 'missing'}")
    elif name == "plan":
        tell(type="plan", entries=[[part, "pending"] for part in rest.split("|")])
    elif name in ("sleep", "hang"):
        time.sleep(float(rest or "3600"))
    elif name == "child":
        child = subprocess.Popen(["sleep", rest], start_new_session=True)
        tell(type="text", text=f"child {child.pid}")
    elif name == "fail":
        print(rest, file=sys.stderr)
        sys.exit(3)
    elif name == "die":
        os.kill(os.getpid(), 9)
    elif name == "garbage":
        print("x" * int(rest or "20"), flush=True)


whole = sys.argv[-1] if "--argument" in sys.argv else sys.stdin.read()
for number, found in enumerate(parse(whole)):
    step(found.name, found.rest, whole, number)
