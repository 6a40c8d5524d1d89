"""The figures of a metadata server in the text form that Prometheus reads."""

from __future__ import annotations

from typing import Any, Protocol

MEDIA = "text/plain; version=0.0.4; charset=utf-8"


class _HasHealth(Protocol):
    def health(self) -> dict[str, Any]: ...


_COUNTERS = {"reads": "answers to reads", "writes": "durable writes", "flushes": "flushes that writes shared"}
_GAUGES = {
    "stored_keys": "stored facts",
    "stored_bytes": "bytes of all stored facts",
    "revision": "number of the last change",
    "watchers": "open streams of changes",
}


def text(service: _HasHealth) -> bytes:
    """All figures; label values are collectors' names."""
    health = service.health()
    lines = []
    for name, meaning in _COUNTERS.items():
        lines += _metric(f"qd_metadata_{name}_total", "counter", meaning, [("", health[name])])
    for name, meaning in _GAUGES.items():
        lines += _metric(f"qd_metadata_{name}", "gauge", meaning, [("", health[name])])
    lines += _metric("qd_metadata_degraded", "gauge", "1 when a problem stands", [("", int(bool(health["problems"])))])
    collectors = {f'{{collector="{_label(name)}"}}': figures for name, figures in health["collectors"].items()}
    for name, kind, meaning in (
        ("collections", "counter", "collections begun"),
        ("failures", "counter", "collections that failed"),
        ("last_seconds", "gauge", "seconds that the last collection took"),
    ):
        full = f"qd_metadata_collector_{name}" + ("_total" if kind == "counter" else "")
        lines += _metric(full, kind, meaning, [(label, figures[name]) for label, figures in collectors.items()])
    return ("\n".join(lines) + "\n").encode()


def _metric(name: str, kind: str, meaning: str, values: list[tuple[str, Any]]) -> list[str]:
    return [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", *(f"{name}{label} {value}" for label, value in values)]


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
