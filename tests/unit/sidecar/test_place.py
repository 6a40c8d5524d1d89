"""The token: there whole or not at all, the same at every start, private."""

from __future__ import annotations

from pathlib import Path

import pytest

from quarterdeck.sidecar import place


def test_the_token_is_made_once(tmp_path: Path) -> None:
    first = place.token(tmp_path)
    assert len(first) > 30
    assert place.token(tmp_path) == first
    assert (tmp_path / place.TOKEN_FILE).stat().st_mode & 0o777 == 0o600
    assert [f.name for f in tmp_path.iterdir()] == [place.TOKEN_FILE]


@pytest.mark.parametrize("left", ["", " \n"])
def test_an_empty_token_of_a_crash_is_made_anew(tmp_path: Path, left: str) -> None:
    (tmp_path / place.TOKEN_FILE).write_text(left)
    made = place.token(tmp_path)
    assert len(made) > 30
    assert place.token(tmp_path) == made
    assert (tmp_path / place.TOKEN_FILE).stat().st_mode & 0o777 == 0o600


def test_a_token_that_cannot_be_kept_leaves_no_empty_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        place.token(tmp_path)
    assert list(tmp_path.iterdir()) == []
