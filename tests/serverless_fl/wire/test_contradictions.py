"""Settings that contradict secure aggregation are refused by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serverless_fl.aggregation import STRATEGIES
from serverless_fl.domain.choice import Choice
from serverless_fl.domain.errors import InvalidConfig
from serverless_fl.domain.experiment import secure_quorum
from serverless_fl.privacy.secure.graph import COMPLETE, parameters
from serverless_fl.wire import contradictions
from serverless_fl.wire.contradictions import needs_sums_alone
from tests.support.federation import config

PAIRS = {"secure_aggregation": "pairs", "clients": 8, "clients_per_round": 4}


def test_what_goes_with_it():
    made = config(**PAIRS).to_config()
    assert (made.secure, made.updates_to_close, made.sent_encoding) == (True, 3, "masked-uint32")
    assert made.metrics_in_masks[0] == "accuracy_before"
    assert made.most_examples == 5
    assert config(**PAIRS, quorum=4, mask_words="uint16").to_config().updates_to_close == 4


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"strategy": {"name": "median"}}, "strategy (median)"),
        ({"strategy": {"name": "krum"}}, "strategy (krum)"),
        ({"strategy": {"name": "qfedavg"}}, "strategy (qfedavg)"),
        ({"strategy": {"name": "scaffold"}}, "strategy (scaffold)"),
        ({"schedule": {"name": "buffered"}}, "schedule (buffered)"),
        ({"schedule": {"name": "synchronous", "over_selection": 1}}, "schedule (synchronous)"),
        ({"selection": {"name": "by-loss"}}, "selection (by-loss)"),
        ({"update_encoding": "delta-int8"}, "update_encoding (delta-int8)"),
        ({"max_update_norm": 1.0}, "max_update_norm (1.0)"),
        ({"target_accuracy": 0.9}, "target_accuracy (0.9)"),
        ({"target_metric": "loss"}, "target_metric (loss)"),
        ({"clients_per_round": 2}, "clients_per_round (2)"),
        ({"quorum": 2}, "quorum (2)"),
        (
            {"clients": 2000, "clients_per_round": 1001, "dataset_size": 2000},
            "clients_per_round (1001)",
        ),
        (
            {
                **{"clients": 300, "clients_per_round": 101, "dataset_size": 300},
                "mask_words": "uint16",
            },
            "mask_words (uint16)",
        ),
    ],
)
def test_contradictions(changes, named):
    with pytest.raises(InvalidConfig) as found:
        config(**PAIRS | changes).to_config()
    assert named in found.value.message
    assert "secure_aggregation" in found.value.message


def test_words_of_16_bits_and_data_of_the_parties_own():
    """The share of the most examples that a party may have would be less than a step."""
    own = PAIRS | {"data": "own", "dataset_size": None, "mask_words": "uint16"}
    with pytest.raises(InvalidConfig, match="set max_examples_per_client to what the largest"):
        config(**own).to_config()
    assert config(**own, max_examples_per_client=500).to_config().most_examples == 500


def test_any_other_privacy_mechanism():
    with pytest.raises(InvalidConfig, match="secure_aggregation hides each update"):
        config(**PAIRS, privacy="dp-fedavg").to_config()
    plain = config(**PAIRS).to_config()
    other = replace(plain, privacy=Choice("another"))
    fault = contradictions.masking_fault(config(**PAIRS), other)
    assert "privacy (another) contradicts secure_aggregation (pairs)" in fault


@pytest.mark.parametrize(
    "setting",
    [
        {"mask_words": "uint16"},
        {"max_weight_change": 2.0},
        {"masked_metrics": "loss"},
        {"phase_seconds": 5.0},
    ],
)
def test_settings_of_masks_without_masks(setting):
    (name,) = setting
    with pytest.raises(InvalidConfig, match=f"{name} .* is about masked updates"):
        config(**setting).to_config()


def test_strategies_that_need_sums_alone():
    found = {each().name for each in STRATEGIES if needs_sums_alone(each())}
    assert found == {"fedavg", "fedavgm", "fedadagrad", "fedadam", "fedyogi"}


def test_the_quorum_is_no_smaller_than_what_parties_accept():
    for cohort in range(3, COMPLETE + 1):
        assert secure_quorum(cohort) == parameters(cohort).threshold


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (PAIRS, "secure_aggregation (pairs)"),
        ({"privacy": {"name": "dp-fedavg", "noise_multiplier": 1.0}}, "privacy (dp-fedavg)"),
        (
            {
                "privacy": {"name": "dp-fedavg", "noise_multiplier": 4.0, "clip_norm": 0.5},
                **{"selection": "secret", "max_attempts": 1, "quorum": 1},
                **{"clients": 40, "clients_per_round": 30},
            },
            "selection (secret)",
        ),
    ],
)
def test_counts_of_labels_contradict_what_hides_a_client(changes, named):
    config(**changes).to_config()
    with pytest.raises(InvalidConfig) as found:
        config(**changes, label_counts="asked").to_config()
    said = str(found.value)
    assert said.startswith(f"label_counts (asked) contradicts {named}, because the latter")
    assert said.endswith("set label_counts to off, or leave " + named.split()[0] + " out.")
