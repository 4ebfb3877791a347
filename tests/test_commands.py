"""The commands that documents name are there."""

from __future__ import annotations

import importlib
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.some import some

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "Makefile",
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("tests/*/__main__.py"),
]
OURS = r"(?:app|benchmarks|client_sdk|examples|tests)(?:\.\w+)*"


def named(pattern: str) -> list[str]:
    """What stands in the pattern's group on any of the pages, each once."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    return some(sorted({found for text in texts for found in re.findall(pattern, text)}))


@pytest.mark.parametrize("module", named(rf"python -m ({OURS})\b"))
def test_a_module_that_is_run_is_there_with_all_that_it_imports(module):
    package = find_spec(module).submodule_search_locations is not None
    importlib.import_module(f"{module}.__main__" if package else module)


@pytest.mark.parametrize("target", named(r"(?:`|\n {4})make ([a-z-]+)"))
def test_make_has_the_target(target):
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", rules, re.MULTILINE)
