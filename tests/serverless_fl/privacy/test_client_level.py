"""DP-FedAvg by hand: what an update counts, how much noise its mean gets, and who is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError

from serverless_fl.domain.errors import BadWeights, InvalidConfig
from serverless_fl.domain.ledger import most_participations
from serverless_fl.privacy import MECHANISMS, Taken
from serverless_fl.privacy.dp_adaptive import DpAdaptive
from serverless_fl.privacy.dp_fedavg import DpFedAvg
from serverless_fl.privacy.noise import Noise, round_key
from serverless_fl.weights.header import TensorSpec
from serverless_fl.weights.spans import Piece
from serverless_fl.wire.config import ExperimentConfig

KEY = round_key(b"secret", 1)


def test_an_update_is_clipped_to_the_norm():
    mechanism = DpFedAvg(clip_norm=2.0)
    assert [mechanism.share(norm, None) for norm in (0, 2, 8)] == [1, 1, 0.25]
    with pytest.raises(BadWeights, match="not finite"):
        mechanism.share(math.inf, None)


def test_all_weigh_the_same_or_as_much_as_their_examples_up_to_a_bound():
    assert [DpFedAvg().weight(n) for n in (1, 600)] == [1, 1]
    assert [DpFedAvg(max_weight=100).weight(n) for n in (1, 600)] == [1, 100]


def test_the_noise_of_the_mean_is_that_of_the_most_that_one_update_adds_to_it():
    assert DpFedAvg(noise_multiplier=3, clip_norm=2.0).deviation(None, [1] * 10) == 0.6
    bounded = DpFedAvg(noise_multiplier=3, clip_norm=2.0, max_weight=100)
    assert bounded.deviation(None, [100, 50, 50]) == 3


def test_the_step_gets_the_mean_with_its_noise():
    elements = Piece(TensorSpec("w", "F32", (5,), 0, 20), 1, 4)
    noise = Noise(KEY, 0.5)
    step = DpFedAvg().wrap_step(
        lambda base, reduced, *_: (reduced["weights"] - base, {}), elements, noise
    )
    found, _ = step(np.ones(3), {"weights": np.full(3, 3.0)}, {}, None)
    assert (found == 3.0 + noise.of(elements) - 1.0).all()


def test_a_client_pays_for_each_of_its_rounds():
    assert most_participations([(0, 1), (1, 2), (1,), ()]) == 3
    assert most_participations([]) == 0
    assert DpFedAvg(noise_multiplier=4, delta=1e-5).epsilon(30) == pytest.approx(6.3257154)


# Andrew et al. 2021


def test_the_two_releases_of_a_round_cost_together_what_one_would():
    """Their table: z = 1, 100 clients, a count's noise of 5: hardly more noise on the updates."""
    mechanism = DpAdaptive(noise_multiplier=1.0, count_noise=5.0)
    z = mechanism.updates_multiplier
    assert z == pytest.approx(1.00503782)
    assert 1 / z**2 + 1 / (2 * 5.0) ** 2 == pytest.approx(1.0)


@pytest.mark.parametrize("first", [0.01, 50.0])
def test_the_norm_settles_at_the_quantile_from_either_side(first):
    """Norms of 0.5 to 1.5: half of them are below 1. Flower moves the norm away from it."""
    mechanism = DpAdaptive(clip_norm=first, count_noise=5.0)
    norms = np.linspace(0.5, 1.5, 101)
    entry = None
    for number in range(100):
        whole = (norms <= mechanism.clip_in(entry)).tolist()
        taken = Taken(weights=[1.0] * 101, whole=whole)
        entry = mechanism.entry(entry, taken, round_key(b"s", number), [(0,)], "")
    assert 0.85 < entry.next_clip < 1.15


def test_one_step_of_the_norm_by_hand():
    mechanism = DpAdaptive(clip_norm=2.0, clip_learning_rate=0.5, clip_quantile=0.5)
    taken = Taken(weights=[1.0] * 4, whole=[True, True, True, False])
    counted = 1 + 1.0 * Noise(KEY, 1.0).of_word("count")
    expected = 2.0 * math.exp(-0.5 * (counted / 4 + 0.5 - 0.5))
    assert mechanism.next_clip(None, taken, KEY) == pytest.approx(expected)


# Refusals

GIVEN = {"dataset": "d", "dataset_size": 1000, "model": "m", "clients": 20}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"strategy": "median"}, r"strategy \(median\) is more than a mean"),
        ({"strategy": "krum"}, r"strategy \(krum\)"),
        ({"strategy": "scaffold"}, r"strategy \(scaffold\)"),
        ({"strategy": "fednova"}, r"strategy \(fednova\)"),
        ({"strategy": "qfedavg"}, r"strategy \(qfedavg\)"),
        ({"strategy": "feddyn"}, r"strategy \(feddyn\)"),
        ({"secure_aggregation": "pairs"}, "secure_aggregation hides each update"),
        ({"schedule": "buffered"}, r"schedule \(buffered\)"),
        ({"selection": "by-loss"}, r"selection \(by-loss\)"),
        ({"max_update_norm": 1.0}, r"max_update_norm \(1\) is a bound of privacy none"),
        ({"target_accuracy": 0.9}, "target_accuracy ends the experiment by metrics"),
        ({"target_metric": "loss_before", "target_value": 0.1}, "target_value ends"),
        ({"budget_epsilon": 0.5}, r"The first round alone costs an epsilon of 4\.377"),
        ({"privacy": {"name": "dp-fedavg", "delta": 0.01}, "clients": 200}, r"delta \(0.01\) must"),
        ({"privacy": "none", "budget_epsilon": 1.0}, "privacy none spends none"),
        ({"privacy": {"name": "dp-adaptive", "count_noise": 0.5}}, r"count_noise \(0.5\) must be"),
        (
            {"data": "own", "dataset_size": None, "normalisation": "federated"},
            r"normalisation \(federated\)",
        ),
    ],
)
def test_a_setting_that_would_make_the_promise_false_is_refused_by_name(settings, says):
    with pytest.raises(InvalidConfig, match=says):
        ExperimentConfig(**(GIVEN | {"privacy": "dp-fedavg"} | settings)).to_config()


@pytest.mark.parametrize("strategy", ["fedavg", "fedavgm", "fedadam", "fedadagrad", "fedyogi"])
def test_means_of_updates_go_with_it(strategy):
    config = ExperimentConfig(**GIVEN, privacy="dp-fedavg", strategy=strategy).to_config()
    assert config.privacy.plain == "dp-fedavg"


@pytest.mark.parametrize("mechanism", [m.model_fields["name"].default for m in MECHANISMS])
def test_the_defaults_of_a_mechanism_go_together(mechanism):
    assert ExperimentConfig(**GIVEN, privacy=mechanism).to_config().privacy.plain == mechanism


def test_the_ledger_says_what_its_numbers_mean():
    entry = DpFedAvg(noise_multiplier=8).entry(
        None, Taken(weights=[1], whole=[True]), KEY, [(0,)] * 9, ""
    )
    assert entry.epsilon == pytest.approx(1.4477231)
    assert "at most 4.3 times more or less likely" in entry.meaning
    assert "probability of 1e-05 (delta)" in entry.meaning
    loud = DpFedAvg(noise_multiplier=0.1).entry(
        None, Taken(weights=[1], whole=[True]), KEY, [(0,)] * 9, ""
    )
    assert "more than 400 million times" in loud.meaning
    assert loud.meaning.endswith("An epsilon above 10 promises little.")


def test_its_settings_are_bounded():
    for wrong in ({"noise_multiplier": 0}, {"delta": 1}, {"clip_norm": 0}, {"max_weight": 0}):
        with pytest.raises(ValidationError):
            DpFedAvg(**wrong)
