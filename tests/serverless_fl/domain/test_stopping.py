"""A run that stops at its target has met it, in nine runs of ten and more."""

import math
import random
from collections import Counter
from dataclasses import replace

import pytest

from serverless_fl.domain.confidence import RISK, least_examples, lower_bound, risk_after_round
from serverless_fl.domain.stopping import evidence, held_out, out_of_reach
from tests.audit.stopping import runs, settings, update


def test_the_bound_by_hand():
    assert lower_bound(10, 10, 0.1) == pytest.approx(0.1**0.1)  # all right: q**n is the risk
    assert lower_bound(0, 10, 0.1) == lower_bound(0, 0, 0.1) == 0.0
    found = lower_bound(90, 100, 0.05)
    divergence = 0.9 * math.log(0.9 / found) + 0.1 * math.log(0.1 / (1 - found))
    assert divergence == pytest.approx(math.log(20) / 100)
    bounds = [lower_bound(0.9 * n, n, 0.05) for n in (10, 100, 1000, 10**6)]
    assert bounds == sorted(bounds)
    assert 0.898 < bounds[-1] < 0.9


@pytest.mark.parametrize("share", [0.5, 0.9, 0.97])
@pytest.mark.parametrize("examples", [20, 300])
def test_the_bound_is_above_the_truth_no_more_often_than_it_may(share, examples):
    dice, risk = random.Random(7), 0.1
    trials = 1000
    found = Counter(sum(dice.random() < share for _ in range(examples)) for _ in range(trials))
    wrong = sum(n for right, n in found.items() if lower_bound(right, examples, risk) > share)
    assert wrong <= risk * trials


def test_all_looks_together_have_the_risk_of_one():
    assert sum(risk_after_round(number) for number in range(1, 10**5)) == pytest.approx(
        RISK, rel=1e-3
    )


def test_the_least_examples_are_enough_and_one_less_is_not():
    for target, number in ((0.97, 10), (0.9, 1), (0.5, 1000)):
        least = least_examples(target, number)
        assert lower_bound(least, least, risk_after_round(number)) >= target
        assert lower_bound(least - 1, least - 1, risk_after_round(number)) < target


def test_a_client_measures_on_a_tenth_of_its_shard_at_most():
    config = settings()  # shards of 1,000
    assert held_out(config, update(0, 0.9, 900)) == 100
    assert held_out(config, update(0, 0.9, 950)) == 50
    assert held_out(config, update(0, 0.9, 1)) == 100  # whatever it says that it left out
    assert held_out(config, update(0, 0.9, 1000)) == 100  # measured on something else


def test_a_client_with_data_of_its_own_measures_on_a_tenth_of_what_it_declared():
    config = settings(data="own", dataset_size=None)
    for declared, trained, measured in ((700, 630, 70), (60, 54, 6), (5, 5, 1)):
        sent = replace(update(0, 0.9, trained), declared=declared)
        assert held_out(config, sent) == measured
    assert out_of_reach(config) == ""


def test_each_client_counts_once_with_what_it_said_last():
    newest = [update(0, 0.9), update(1, 0.8), update(2, 0.95), update(5, None)]
    older = [update(0, 0.1), update(3, 0.85), update(4, 0.92)]
    found = evidence(settings(), 7, [newest, older])
    assert (found.clients, found.examples) == (5, 500)
    # The worst, 0.8, counts as 0.85 and the best, 0.95, as 0.92.
    assert found.rate == pytest.approx((0.85 + 0.85 + 0.9 + 0.92 + 0.92) / 5)


@pytest.mark.parametrize("lie", [0.0, 1.0])
def test_one_that_lies_moves_the_evidence_no_further_than_to_its_neighbour(lie):
    honest = [update(slot, 0.95 + slot / 1000) for slot in range(1, 10)]
    found = evidence(settings(), 1, [[update(0, lie), *honest]])
    assert 0.951 <= found.rate <= 0.959


@pytest.mark.parametrize("tenacity", [0.0, 0.8])
@pytest.mark.parametrize(
    ("size", "patience", "count"),
    [(1_400, 1, 150), (1_400, 4, 150), (10_000, 2, 40)],
    ids=["7-each", "7-each-pooled", "50-each"],
)
def test_whoever_stops_at_the_target_has_met_it_in_nine_runs_of_ten(
    size, patience, count, tenacity
):
    """Models that end anywhere around the target, and those that end just below it."""
    changes = {"dataset_size": size, "patience": patience, "target_accuracy": 0.9}
    stopped, met = runs(count, (0.86, 0.99), tenacity, **changes)
    assert stopped > count / 20
    assert met >= 0.9 * stopped
    stopped, met = runs(count, (0.895, 0.8999), tenacity, **changes)
    assert met == 0
    assert stopped <= 0.1 * count


def test_with_enough_examples_it_does_stop():
    changes = {"dataset_size": 20_000, "target_accuracy": 0.9}
    assert runs(10, (0.95, 0.96), 0.5, **changes)[0] == 10


def test_a_target_out_of_reach_is_told_before_the_run():
    digits = {"dataset_size": 1437, "target_accuracy": 0.97, "rounds": 50}
    said = out_of_reach(settings(**digits, patience=2))
    assert "after round 10 only 230 held-out examples or more, all of them right, show it" in said
    assert "the pooled rounds have 140" in said
    assert out_of_reach(settings(target_accuracy=None)) == ""
    assert out_of_reach(settings(dataset_size=60_000, target_accuracy=0.97)) == ""
    assert out_of_reach(settings(target_accuracy=1.0))


async def test_the_rounds_of_the_patience_are_pooled_and_told(federation):
    changes = {"rounds": 9, "target_accuracy": 0.9, "patience": 2, "dataset_size": 8000}
    experiment, members = await federation.start(**changes)
    for number, accuracy in enumerate([0.97, 0.5, 0.95, 0.96], start=1):
        shown = await federation.admin.experiment(experiment)
        assert shown.state == "running"
        for client in await federation.cohort(experiment):
            await members[client].upload(number, 1.0, 1800, accuracy_before=accuracy)
    shown = await federation.admin.experiment(experiment)
    assert (shown.state, shown.model_version) == ("completed", 4)
    assert "target accuracy of 90.00% was reached: 96.00% with model 3" in shown.reason
    assert "held-out examples of" in shown.reason
    assert "in 2 rounds were right, which shows at least 9" in shown.reason


async def test_few_examples_show_nothing_and_the_end_says_so(federation):
    experiment, members = await federation.start(rounds=3, target_accuracy=0.9)
    for number in (1, 2, 3):
        for client in await federation.cohort(experiment):
            await members[client].upload(number, 1.0, 9, accuracy_before=1.0)
    shown = await federation.admin.experiment(experiment)
    assert (shown.state, shown.model_version) == ("completed", 3)
    assert shown.reason == ("All 3 rounds are closed. The target accuracy of 90.00% was not shown.")
