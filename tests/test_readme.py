"""README.pt.md keeps step with README.md: what can be compared without knowing Portuguese."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.some import some
from tests.support.translated import Page, read

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pages():
    return [
        read((ROOT / name).read_text(encoding="utf-8")) for name in ("README.md", "README.pt.md")
    ]


@pytest.mark.parametrize("part", Page.__dataclass_fields__)
def test_the_translation_has_the_same(pages, part):
    english, portuguese = (getattr(page, part) for page in pages)
    assert english, f"README.md has no {part}: does this test still read it?"
    assert portuguese == english


def test_the_reader_of_pages_sees_what_differs():
    one = "# A\n\n```\nrun\n```\n\n| a |\n|---|\n| 1,000 |\n\n- `x` [l](docs/y)\n"
    assert read(one) == read(one.replace("# A", "# Outro").replace("1,000", "1.000"))
    for change in (("# A", "## A"), ("run", "ran"), ("| 1,000 |\n", ""), ("1,000", "1,001")):
        assert read(one) != read(one.replace(*change))


@pytest.mark.parametrize("name", ["README.md", "README.pt.md"])
def test_links_lead_to_files(name):
    for link in some(read((ROOT / name).read_text(encoding="utf-8")).links):
        if not link.startswith("http"):
            assert (ROOT / link.split("#")[0]).exists(), link
