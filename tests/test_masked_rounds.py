"""The benchmark of whole masked rounds: what it measures is a real round, and what it tells."""

from __future__ import annotations

import pytest

from benchmarks.peers import masked_rounds
from benchmarks.peers.masked_rounds import FLOWER, Accounts, Ours, table

SHAPES = ((6, 5), (7,))


@pytest.mark.parametrize(("mode", "bits"), [("helper", 16), ("pairs", 16)])
async def test_a_round_with_a_lost_client_gives_the_mean_and_each_sides_seconds(mode, bits):
    found = await Ours(mode, bits, SHAPES, 4, 1).measure()
    assert found["completed"]
    assert found["error"] < 0.01
    stages = {"masked update"} | ({"keys", "shares", "unmasking"} if mode == "pairs" else set())
    assert set(found["clients"]) - {"polls"} == stages
    assert ("helper" in found) == (mode == "helper")
    assert 0 < found["longest_call"] <= found["server"]
    assert found["up"] > 0


async def test_a_round_with_too_many_lost_ends():
    assert await Ours("pairs", 16, SHAPES, 4, 2).measure() == {"completed": False}


def test_seconds_are_charged_to_the_innermost(monkeypatch):
    now = iter([0.0, 1.0, 3.0, 7.0, 15.0])
    monkeypatch.setattr(masked_rounds.time, "process_time", lambda: next(now))
    accounts = Accounts()
    with accounts.charging("client"), accounts.charging("coordinator"):
        pass
    assert accounts.seconds == {"nobody": 1.0, "client": 2.0 + 8.0, "coordinator": 4.0}


def test_ratios_stand_beside_the_same_round_of_flower_alone():
    common = {"model": "22 thousand", "cohort": 10, "lost": 1, "completed": True}
    ours = {"program": "pairs", "bits": 16, "clients": {"keys": 0.9}, "server": 2.0}
    theirs = {"program": FLOWER, "bits": 32, "clients": {"keys": 1.8}, "server": 4.0}
    moved = {"up": 9 * 21840 * 2, "down": 9 * 21840 * 4}
    rows = [common | theirs | moved, common | ours | moved | {"longest_call": 0.5}]
    rows.append(common | ours | {"lost": 3, "completed": False})
    found = table({"rounds": rows}, "22 thousand")[2:]
    name = "ours, `pairs`, 16 bits"
    assert found[0] == ["10, 1", name, "0.100", "2.00", "0.50", "", "2.00, 4.00", "0.50", "0.50"]
    assert found[1][-2:] == ["", ""]
    assert found[2][:3] == ["10, 3", name, "ends: too few shares are left"]
