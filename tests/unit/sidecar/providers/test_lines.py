from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.sidecar.providers.lines import KEPT_OF_LONG_LINE, LineSplitter, LongLine


def split(chunks: list[bytes], limit: int) -> list[bytes | LongLine]:
    splitter = LineSplitter(limit)
    found = [line for chunk in chunks for line in splitter.feed(chunk)]
    return [*found, *splitter.finish()]


@given(st.binary(max_size=400), st.lists(st.integers(min_value=0, max_value=400), max_size=8))
def test_how_the_output_is_cut_into_chunks_changes_nothing(data: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[a:b] for a, b in pairwise(places)]
    expected = [line.rstrip(b"\r") for line in data.split(b"\n")]
    assert split(chunks, 1000) == [line for line in expected if line]


@given(st.lists(st.integers(min_value=1, max_value=900), min_size=1, max_size=6), st.integers(1, 300))
def test_lines_over_the_limit_are_measured_and_the_others_kept(sizes: list[int], piece: int) -> None:
    data = b"\n".join(b"x" * size for size in sizes) + b"\n"
    found = split([data[start : start + piece] for start in range(0, len(data), piece)], 250)
    assert [line.size if isinstance(line, LongLine) else len(line) for line in found] == sizes
    for size, line in zip(sizes, found, strict=True):
        assert isinstance(line, LongLine) == (size > 250)
        if isinstance(line, LongLine):
            assert line.head == b"x" * KEPT_OF_LONG_LINE


def test_an_endless_line_takes_no_memory() -> None:
    splitter = LineSplitter(1000)
    chunk = b"y" * 65536
    for _ in range(1000):
        assert list(splitter.feed(chunk)) == []
        assert len(splitter._held) <= 1000
    assert list(splitter.feed(b"\nafter\n")) == [LongLine(65_536_000, b"y" * KEPT_OF_LONG_LINE), b"after"]


def test_the_last_line_needs_no_line_end() -> None:
    assert split([b"one\r\ntw", b"o"], 10) == [b"one", b"two"]
