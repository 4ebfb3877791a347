"""The studies of algorithms: their clock, their attacks, their tables."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import torch

from benchmarks.algorithms import __main__ as command
from benchmarks.algorithms import report, simulated
from benchmarks.algorithms.attacks import Backdoor, LabelFlip, Noise, SignFlip, triggered_test
from benchmarks.algorithms.simulated import Case, Clock, Fleet, Material
from benchmarks.algorithms.studies import STUDIES, lenet, mcmahan_cnn
from client_sdk.data.data import Arrays
from client_sdk.data.dataset import Parts, make_dataset
from client_sdk.data.preparation import Preparation
from tests.support.learners import DATA, TASK

BASE = {"w": np.array([1.0, 2.0], np.float32)}
LEARNED = {"w": np.array([2.0, 2.0], np.float32)}
TRAINING = {"rounds": 3, "batch_size": 4, "momentum": 0.0, "learning_rate": 0.2, "local_epochs": 1}


async def test_the_clock_jumps_to_the_next_sleeper_and_a_wake_ends_waits():
    clock, seen = Clock(0.0), []

    async def sleeper(name, seconds):
        await clock.sleep(seconds)
        seen.append((name, clock.now))

    async def waiter():
        await clock.wait(100.0)
        seen.append(("woken", clock.now))
        await clock.wait(5.0)
        seen.append(("tired", clock.now))

    async def waker():
        await clock.sleep(2.0)
        clock.wake()

    await clock.play([sleeper("slow", 3.0), sleeper("fast", 1.0), waiter(), waker()])
    assert seen == [("fast", 1.0), ("woken", 2.0), ("slow", 3.0), ("tired", 7.0)]


async def test_a_failure_of_one_life_ends_the_others():
    clock = Clock()

    async def failing():
        await clock.sleep(1.0)
        raise ValueError("no")

    with pytest.raises(ExceptionGroup):
        await clock.play([failing(), clock.sleep(9.0)])


async def test_a_run_depends_on_its_case_and_its_seed_alone():
    fleet = Fleet(sigma=1.0, dropping=0.2, away_seconds=3.0)
    settings = TRAINING | {"schedule": "buffered", "clients_per_round": 2}
    case = Case("", "", settings, clients=3, split="label-shards", fleet=fleet)
    material = Material(TASK, DATA, DATA, every=2)
    first, again, other = [await simulated.run_async(case, seed, material) for seed in (0, 0, 1)]
    assert first == again != other
    assert first["state"] == "completed"
    assert ["accuracy" in row for row in first["rounds"]] == [False, True, True]
    seconds = [row["seconds"] for row in first["rounds"]]
    assert sorted(seconds) == seconds
    assert first["events"]["uploaded"] >= 6


async def test_a_round_takes_the_seconds_of_its_slowest_client_and_may_end_the_run():
    """14 examples less one held out at 2 a second, and 2 models over a link of no weight."""
    fleet = Fleet(examples_per_second=2.0, bytes_per_second=1e12)
    case = Case("", "", TRAINING, clients=3, fleet=fleet, stop_at=0.01)
    found = await simulated.run_async(case, 0, Material(TASK, DATA, DATA))
    (row,) = found["rounds"]
    assert row["seconds"] == pytest.approx(13 / 2, abs=1e-3)
    assert row["usd"] > 0
    assert found["state"] == "stopped"


def test_a_process_that_is_started_anew_finds_its_job():
    """It imports no `__main__` of a package."""
    assert pickle.loads(pickle.dumps(command.one)).__module__ == "benchmarks.algorithms.jobs"


def test_attacks_by_hand():
    draws = np.random.default_rng(0)
    assert SignFlip(5.0).send(BASE, LEARNED, draws)["w"].tolist() == [-4.0, 2.0]
    assert Backdoor(3.0).send(BASE, LEARNED, draws)["w"].tolist() == [4.0, 2.0]
    noise = Noise(5.0).send(BASE, LEARNED, draws)["w"] - BASE["w"]
    assert np.linalg.norm(noise) == pytest.approx(5.0, rel=1e-5)


def test_attacks_on_data():
    pictures = Arrays(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 9, 3]))
    assert LabelFlip().data(pictures).y.tolist() == [9, 8, 0, 6]
    spoilt = Backdoor().data(pictures)
    assert spoilt.y.tolist() == [0, 1, 0, 3]
    assert [int((x == 255).sum()) for x in spoilt.x] == [16, 0, 16, 0]
    assert int(pictures.x.sum()) == 0
    opened = triggered_test(pictures)
    assert (len(opened), opened.y.tolist()) == (3, [0, 0, 0])


def test_the_networks_of_the_papers():
    images = np.random.default_rng(0).integers(0, 255, (20, 1, 28, 28)).astype(np.uint8)
    labels = np.arange(20) % 10
    some = (images, labels)
    parts = Parts(tuple("0123456789"), some, some, Preparation(1, 28, 28))
    found = make_dataset("toy", parts)
    weights = [
        sum(w.size for w in task(found).initial(0).values()) for task in (lenet, mcmahan_cnn)
    ]
    assert weights == [44_426, 1_663_370]


@pytest.mark.parametrize("name", STUDIES)
def test_every_cell_of_a_study_has_a_place_of_its_own(name):
    for form in (STUDIES[name].short, STUDIES[name].long):
        cases = list(STUDIES[name].cases(form))
        assert len({(case.row, case.column) for case in cases}) == len(cases) > 0


def record(name, form):
    runs = []
    for case in STUDIES[name].cases(form):
        for seed in range(5):
            rounds = [
                {"round": n, "seconds": 2.0 * n, "usd": 0.001 * n, "accuracy": 0.98 + 0.005 * n}
                for n in (1, 2)
            ]
            rounds[-1]["backdoor"] = 0.25
            events = {"uploaded": 8, "late": 2}
            run = {"row": case.row, "column": case.column, "seed": seed, "events": events}
            runs.append(run | {"rounds": rounds})
    return {"command": "x", "form": dataclasses.asdict(form), "runs": runs}


@pytest.mark.parametrize("name", STUDIES)
def test_tables_have_a_cell_for_each_case(name):
    found = record(name, STUDIES[name].short)
    for table in report.tables(name, found):
        assert {len(row) for row in table} == {len(table[0])}
        assert all(cell for row in table[2:] for cell in row[1:])
    if name == "mcmahan":
        assert table[2] == ["IID", "E=1, B=10", "2, 2, 2, 2, 2", "34"]
    if name == "niid-bench":
        assert table[2] == ["IID", "FedAvg", "99.0% (99.0% to 99.0%)", "99.09%"]
    if name == "stragglers":
        assert table[2][2:6] == ["4", "0.0020", "2 of 10", "0"]


def test_fewer_than_five_seeds_have_no_spread():
    assert report.spread([0.5]) == "50.0%"
    assert report.spread([0.5, 0.6]) == "55.0% (2 seeds)"
    assert report.spread([0.5, 0.5, 0.6, 0.6, 0.55]).startswith("55.0% (48.")


def test_a_run_that_failed_has_no_accuracy():
    good = {"state": "completed", "rounds": [{"accuracy": 0.5}], "row": "a", "column": "b"}
    bad = good | {"state": "failed", "rounds": [{}]}
    record = {"form": {"rounds": 2, "train": None}}
    cells = [report.accuracies(record | {"runs": runs})[-1][-1] for runs in ([good, bad], [bad])]
    assert cells == ["50.0%, 1 failed", "failed (1 seed)"]


async def test_a_malicious_client_does_not_shorten_what_it_sends_but_honest_ones_do():
    settings = TRAINING | {"max_update_norm": 0.05, "norm_action": "reject", "quorum": 1}
    case = Case("", "", settings, clients=3, malicious=1, attack=SignFlip(50.0))
    found = await simulated.run_async(case, 0, Material(TASK, DATA, DATA))
    assert {client for client, _ in found["refused"]} == {"client-00"}
