"""Each example runs, and prints what the table in examples/README.md says."""

from __future__ import annotations

import importlib.util
import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PAGE = (EXAMPLES / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| \[(\w+)\.py\]\(\1\.py\) \|.*\| (`[^|]*`) \|$", PAGE, re.MULTILINE)
NEEDS = {"jax_arrays": "jax"}
CLOSE = 0.05  # a percentage or a share may differ by so much between machines
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def shares(text):
    """The numbers with a fraction; a percentage counts as a share."""
    return [
        float(number) / (100 if text[found.end() : found.end() + 1] == "%" else 1)
        for found in _NUMBER.finditer(text)
        if "." in (number := found.group())
    ]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "expected"), ROWS)
def test_an_example_prints_what_the_page_says(name, expected, capsys, monkeypatch):
    if (needed := NEEDS.get(name)) and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    monkeypatch.setattr("sys.argv", [f"{name}.py"])
    # Another test may have imported it, and runpy warns of that.
    monkeypatch.delitem(sys.modules, f"examples.{name}", raising=False)
    runpy.run_module(f"examples.{name}", run_name="__main__")
    printed, lines = capsys.readouterr().out.splitlines(), re.findall("`([^`]*)`", expected)
    assert [_NUMBER.sub("N", line) for line in printed] == [_NUMBER.sub("N", s) for s in lines]
    assert shares("\n".join(printed)) == pytest.approx(shares("\n".join(lines)), abs=CLOSE)


def test_the_page_has_all_examples():
    runs = {
        path.stem
        for path in EXAMPLES.glob("*.py")
        if "simulate(" in path.read_text(encoding="utf-8")
    }
    assert runs == {name for name, _ in ROWS}


def test_the_hospitals_take_at_most_twelve_lines():
    text = (EXAMPLES / "breast_cancer.py").read_text(encoding="utf-8").split('"""')[2]
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 12
