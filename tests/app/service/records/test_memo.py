"""An object is used again only while the store gives the same document."""

import pytest

from app.service.records import memo
from app.service.records.memo import Memo
from app.store.port import Document


def made(most: int = 2) -> tuple[Memo[dict], list[str]]:
    calls: list[str] = []

    def make(found: Document) -> dict:
        calls.append(found.key)
        return dict(found.body)

    return Memo(make, most), calls


def test_the_same_document_gives_the_same_object_from_whatever_copy():
    objects, calls = made()
    first = objects(Document("a", 1, {"n": [1]}))
    assert objects(Document("a", 1, {"n": [1]})) is first
    assert calls == ["a"]


@pytest.mark.parametrize("other", [Document("a", 2, {"n": 1}), Document("a", 1, {"n": 2})])
def test_another_revision_or_body_makes_another_object(other):
    """A restored backup may have another body under the same revision."""
    objects, _ = made()
    assert objects(Document("a", 1, {"n": 1})) == {"n": 1}
    assert objects(other) == other.body


def test_the_least_recently_used_object_is_forgotten():
    objects, calls = made(most=2)
    for key in ("a", "b", "a", "c", "a", "b"):
        objects(Document(key, 1, {}))
    assert calls == ["a", "b", "c", "b"]


def test_without_the_switch_nothing_is_remembered(monkeypatch):
    monkeypatch.setattr(memo, "ON", False)
    objects, calls = made()
    objects(Document("a", 1, {}))
    objects(Document("a", 1, {}))
    assert calls == ["a", "a"]
