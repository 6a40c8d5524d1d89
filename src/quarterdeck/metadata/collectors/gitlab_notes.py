"""What a reviewer on GitLab who asks for changes wrote about it. Pure.

GitLab has no reviews: a reviewer has a state, and notes. When the state becomes "requested changes" GitLab itself
writes a note of it. That note is the event, whatever is said later; the reviewer's own notes are only its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from quarterdeck.metadata.collectors.pull_request import ChangeRequest

NOTE_CHARACTERS = 1000
# The notes of a review are published together with it; their times differ by what that takes.
TOGETHER_SECONDS = 60.0
MOST_NOTES = 20
_SAYS_SO = "requested changes"


def keep_notes(answer: Any) -> Any:
    """What is used of the notes: people's, and those that say that somebody asks for changes."""
    return [
        {
            "id": note["id"],
            "author": note["author"]["username"],
            "asks": bool(note.get("system")),
            "at": datetime.fromisoformat(note["created_at"].replace("Z", "+00:00")).timestamp(),
            "place": _place(note.get("position")),
            "text": (note["body"] or "")[:NOTE_CHARACTERS],
        }
        for note in answer
        if not note.get("system") or (note["body"] or "").startswith(_SAYS_SO)
    ]


def _place(position: Any) -> str:
    if not isinstance(position, dict):
        return ""
    path, line = position.get("new_path") or position.get("old_path"), position.get("new_line")
    return (f"{path}:{line}" if line else str(path)) if path else ""


def tell_all_requests(notes: Sequence[dict[str, Any]], asking: Sequence[str]) -> bool:
    """Whether these newest notes say of each of them when changes were asked for."""
    return all(_request(notes, name) is not None for name in asking)


def change_request(name: str, head: str, notes: Sequence[dict[str, Any]], url: str) -> ChangeRequest:
    """What a reviewer asks for; `notes` are the newest first. Where none says when, it is one event per commit."""
    request = _request(notes, name)
    own = [note for note in notes if note["author"] == name and not note["asks"]]
    if request is None:
        return ChangeRequest(f"by:{name}@{head[:12]}", name, _words(own[:1]), url)
    before = [note for note in own if note["at"] <= request["at"] + TOGETHER_SECONDS]
    review = [note for note in before if note["at"] >= request["at"] - TOGETHER_SECONDS]
    words = _words(list(reversed((review or before[:1])[:MOST_NOTES])))
    return ChangeRequest(str(request["id"]), name, words, f"{url}#note_{request['id']}")


def _request(notes: Sequence[dict[str, Any]], name: str) -> dict[str, Any] | None:
    return next((note for note in notes if note["asks"] and note["author"] == name), None)


def _words(notes: Sequence[dict[str, Any]]) -> str:
    return "\n\n".join(f"{note['place']}: {note['text']}" if note["place"] else str(note["text"]) for note in notes)
