"""Pages in Portuguese keep step with the English ones: code, tables, names, links and figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.translated import Page, of_english, read

DOCS = Path(__file__).parents[1] / "docs"
PORTUGUESE = sorted(path.name for path in DOCS.glob("*.pt.md"))


@pytest.mark.parametrize("part", Page.__dataclass_fields__)
@pytest.mark.parametrize("name", PORTUGUESE)
def test_a_translation_has_the_same(name, part):
    english = read(text_of(of_english(name)))
    if part == "links":  # to headings of a translated page, too
        translated = [link.split("#")[0] for link in english.links]
        known = {of_english(page) for page in PORTUGUESE}
        english.links = [
            bare if bare in known else link
            for bare, link in zip(translated, english.links, strict=True)
        ]
    assert getattr(read(text_of(name)), part) == getattr(english, part)


@pytest.mark.parametrize("name", PORTUGUESE)
def test_both_pages_lead_to_each_other_and_the_translation_to_translations(name):
    english, portuguese = text_of(of_english(name)), text_of(name)
    assert f"\n[Português]({name})\n" in english
    assert f"\n[English]({of_english(name)})\n" in portuguese
    for page in PORTUGUESE:
        if page != name:
            assert f"]({of_english(page)}" not in portuguese, page


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")
