"""How long an agent has been silent: only while we listened ourselves."""

from __future__ import annotations

from quarterdeck.sidecar.watchdog import Silence


class Hands:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def after(self, seconds: float, silence: Silence) -> float:
        self.now += seconds
        silence.look()
        return silence.seconds


def test_silence_is_what_was_listened_to() -> None:
    clock = Hands()
    silence = Silence(clock)
    assert [clock.after(0.5, silence) for _ in range(4)] == [0.5, 1.0, 1.5, 2.0]
    assert clock.after(3600, silence) == 3.0, "a gap is a pause of ours"
    assert clock.after(0.5, silence) == 3.5
    clock.now += 0.5
    silence.broken()
    assert clock.after(0.25, silence) == 0.25
