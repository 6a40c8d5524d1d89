"""Speaks as much of Claude Code's stream of JSON as a turn needs, and is deaf to the first interrupt."""

from __future__ import annotations

import json
import sys


def say(**message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


interrupts, prompt = 0, ""
for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "user":
        prompt = message["uuid"]
        say(type="command_lifecycle", command_uuid=prompt, state="started")
        continue
    say(
        type="control_response",
        response={"subtype": "success", "request_id": message["request_id"], "response": {"deaf": True}},
    )
    interrupts += message["request"]["subtype"] == "interrupt"
    if interrupts == 2:
        say(type="result", subtype="error_during_execution", is_error=True, user_message_uuids=[prompt])
