"""The house has rooms that a reader can take in (docs/how-it-works.md)."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_FILES = 8
ROOMS = [
    ROOT / "client_sdk",
    *(p for p in (ROOT / "app/service").rglob("") if list(p.glob("*.py"))),
]


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(ROOT)))
def test_a_room_has_at_most_eight_files(room):
    assert len(list(room.glob("*.py"))) <= MOST_FILES


def test_the_trip_of_an_update_passes_at_most_eight_rooms():
    page = (ROOT / "docs/how-it-works.md").read_text()
    trip = re.findall(r"^\*\*(\d)\. .*?\*\*(.*)", page, re.MULTILINE)
    assert [int(number) for number, _ in trip] == list(range(1, len(trip) + 1))
    assert 1 < len(trip) <= MOST_FILES
    named = [room for _, text in trip for room in re.findall(r"\(`(app/[\w/.]+)`\)", text)]
    assert len(named) == len(trip) - 1  # the last step stays in rooms that were named before
    assert [room for room in named if not (ROOT / room).exists()] == []
