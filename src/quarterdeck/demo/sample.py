"""The sample: a small Python package with tests, and the three pieces of work that agents do in it. Pure.

The work is written in the words of `quarterdeck.scripted.script`, which the scripted agent carries out
itself, and which the scripted model API has a real agent carry out with its own tools.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

TESTS = "python3 -B -m unittest discover -t . -s tests"

FILES: dict[str, str] = {
    ".gitignore": "__pycache__/\n",
    "README.md": "# shop\n\nPrices and receipts of a small shop.\n",
    "shop/__init__.py": "",
    "shop/prices.py": '''"""Prices, in cents."""


def total(prices, discount=0):
    """The sum of the prices, less a discount in percent."""
    return sum(prices) - discount
''',
    "tests/__init__.py": "",
    "tests/test_prices.py": """import unittest

from shop.prices import total


class TotalTest(unittest.TestCase):
    def test_sum(self):
        self.assertEqual(total([100, 250]), 350)
""",
}
CONFIG = """# What `qd demo` wrote: the agents of this project may do everything unasked.
[limits]
free_memory_mb = 128
free_disk_mb = 100

[agents]
provider = "{provider}"
permissions = "allow"

[projects.shop]
check = ["python3", "-B", "-m", "unittest", "discover", "-t", ".", "-s", "tests"]
"""


@dataclass(frozen=True, kw_only=True)
class Work:
    """One agent's work: its first task, and what must be true of its branch afterwards.

    `files` are exactly those that the branch changes; `tests` is the least number of tests that then pass.
    """

    agent: str
    task: str
    files: frozenset[str]
    tests: int


def _step(name: str, path: str, text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    return f"@{name} {path} {escaped}"


def _call(tool: str, arguments: dict[str, Any]) -> str:
    return f"@mcp {tool} {json.dumps(arguments)}"


def _report(summary: str, state: str = "working") -> str:
    return _call("report_task", {"summary": summary, "state": state})


_FIXED = FILES["shop/prices.py"].replace("sum(prices) - discount", "sum(prices) * (100 - discount) // 100")
_DISCOUNT_TEST = (
    FILES["tests/test_prices.py"]
    + """
    def test_discount(self):
        self.assertEqual(total([1000, 1000], discount=10), 1800)
"""
)
_RECEIPT = '''"""Receipts as text."""

from shop.prices import total


def receipt(items):
    """One line for each item (name, cents), and the total."""
    lines = [f"{name:<12}{cents / 100:>8.2f}" for name, cents in items]
    lines.append(f"{'total':<12}{total([cents for _, cents in items]) / 100:>8.2f}")
    return "\\n".join(lines)
'''
_RECEIPT_TEST = """import unittest

from shop.receipt import receipt


class ReceiptTest(unittest.TestCase):
    def test_lines(self):
        lines = receipt([("tea", 350), ("cup", 1200)]).splitlines()
        self.assertEqual(len(lines), 3)
        self.assertEqual(lines[0], "tea             3.50")

    def test_total(self):
        self.assertTrue(receipt([("tea", 350), ("cup", 1200)]).endswith("15.50"))
"""
_GUIDE = """# Prices

Prices are whole cents; `total` adds them up:

>>> from shop.prices import total
>>> total([100, 250])
350
>>> total([])
0
"""

WORK: tuple[Work, ...] = (
    Work(
        agent="ada",
        files=frozenset({"shop/prices.py", "tests/test_prices.py"}),
        tests=2,
        task="\n".join(
            [
                "Fix the discount in shop/prices.py: it is a percentage. Show the bug with a test first.",
                "@plan show the bug with a test|mend it|run the tests|commit",
                _report("writing a test that shows the bug"),
                _step("write", "tests/test_prices.py", _DISCOUNT_TEST),
                "@sleep 0.5",
                f"@run {TESTS}",
                _report("the test fails, as it should: mending the discount"),
                "@sleep 0.7",
                _step("write", "shop/prices.py", _FIXED),
                "@usage 5200 410",
                f"@run {TESTS}",
                "@check",
                _call("set_metadata", {"values": {"tests": "2 passed", "bug": "discount was not a percentage"}}),
                "@commit Take the discount as a percentage",
                _report("fixed: the discount is a percentage now, 2 tests pass", "complete"),
                "@say The discount is taken as a percentage, and a test holds it.",
            ]
        ),
    ),
    Work(
        agent="grace",
        files=frozenset({"shop/receipt.py", "tests/test_receipt.py"}),
        tests=3,
        task="\n".join(
            [
                "Add shop/receipt.py with receipt(items), and its tests.",
                "@plan write the function|write its tests|run all tests|commit",
                _report("writing receipt(items)"),
                _step("write", "shop/receipt.py", _RECEIPT),
                "@sleep 0.6",
                "@commit Add receipts",
                _report("writing the tests of receipt"),
                _step("write", "tests/test_receipt.py", _RECEIPT_TEST),
                "@sleep 0.8",
                "@usage 7400 690",
                f"@run {TESTS}",
                "@check",
                _call("set_metadata", {"values": {"tests": "3 passed", "added": "shop.receipt.receipt"}}),
                "@commit Test receipts",
                _report("receipt(items) is there, 3 tests pass", "complete"),
                "@say shop/receipt.py is there, with two tests.",
            ]
        ),
    ),
    Work(
        agent="linus",
        files=frozenset({"docs/prices.md", "README.md"}),
        tests=1,
        task="\n".join(
            [
                "Document the prices in docs/prices.md with examples that run, and link it from the README.",
                "@plan write the guide|run its examples|link it|commit",
                _report("writing docs/prices.md"),
                _step("write", "docs/prices.md", _GUIDE),
                "@sleep 0.7",
                _report("running the examples of the guide"),
                "@run python3 -B -m doctest docs/prices.md",
                "@check",
                _step("append", "README.md", "\nSee [prices](docs/prices.md).\n"),
                "@sleep 0.4",
                "@usage 3900 520",
                f"@run {TESTS}",
                "@check",
                _call("set_metadata", {"values": {"tests": "1 passed", "examples": "2 run"}}),
                "@commit Describe prices, with examples that run",
                _report("docs/prices.md is written, its examples run", "complete"),
                "@say The guide is written; its examples were run.",
            ]
        ),
    ),
)
