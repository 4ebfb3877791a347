"""DP-SGD: what its steps cost, beside Google's library dp-accounting, and what it refuses."""

from __future__ import annotations

import math

import pytest

from serverless_fl.domain.errors import InvalidConfig
from serverless_fl.privacy.accounting import epsilon_of
from serverless_fl.privacy.dp_sgd import DpSgd
from serverless_fl.privacy.examples import ExampleNoise, NoisySteps, epsilon_of_steps, steps_of
from serverless_fl.wire.config import ExperimentConfig

PRIVACY = {"name": "dp-sgd", "noise_multiplier": 1.5, "clip_norm": 0.5}


def steps(rate, noise, count):
    return NoisySteps(rate=rate, noise_multiplier=noise, steps=count)


# dp-accounting 0.6.0: RdpAccountant(ORDERS) and PLDAccountant, which is nearly exact, of
# PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), and of GaussianDpEvent where the rate is 1.
# The first is MNIST as in TensorFlow Privacy's tutorial: batches of 256, 60 epochs.
@pytest.mark.parametrize(
    ("spent", "delta", "expected", "exact"),
    [
        ([steps(256 / 60_000, 1.1, 14_100)], 1e-5, 2.6007181389425194, 2.3852107896956682),
        ([steps(0.01, 1.0, 1000)], 1e-5, 2.1077530754515745, 1.8282436461194622),
        ([steps(0.1, 2.0, 100), steps(0.2, 1.5, 50)], 1e-5, 6.4312642244413585, 5.836804474484306),
        ([steps(0.05, 1.0, 200), steps(1.0, 20.0, 10)], 1e-4, 4.653587039030904, 4.046504418571161),
    ],
)
def test_steps_cost_what_the_library_says_and_more_than_the_exact(spent, delta, expected, exact):
    found = epsilon_of_steps(spent, delta)
    assert found == pytest.approx(expected, rel=1e-9)
    assert exact < found < 1.2 * exact


def test_opacus_says_the_same():
    """Its accountant has further orders, so its bound is a little smaller."""
    accountants = pytest.importorskip("opacus.accountants", reason="the extra dp is not installed")
    accountant = accountants.RDPAccountant()
    accountant.history = [(2.0, 0.1, 100), (1.5, 0.2, 50)]
    found = epsilon_of_steps([steps(0.1, 2.0, 100), steps(0.2, 1.5, 50)], 1e-5)
    assert found == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-3)


def test_steps_of_all_examples_are_plain_gaussian_ones():
    assert epsilon_of_steps([steps(1.0, 4.0, 9)], 1e-5) == epsilon_of(math.sqrt(9) / 4, 1e-5)
    assert epsilon_of_steps([], 1e-5) == 0
    assert epsilon_of_steps([steps(0.5, 4.0, 0)], 1e-5) == 0


def test_an_epoch_has_as_many_steps_as_without_privacy():
    noise = ExampleNoise(noise_multiplier=2.0, clip_norm=1.0)
    assert steps_of(noise, 90, 20, 3) == steps(20 / 90, 2.0, 15)
    assert steps_of(noise, 20, 20, 1) == steps(1.0, 2.0, 1)
    with pytest.raises(ValueError, match="19 examples are fewer than a batch of 20"):
        steps_of(noise, 19, 20, 1)


def test_clients_are_told_of_it():
    mechanism = DpSgd(noise_multiplier=1.5, clip_norm=0.5)
    assert mechanism.has_client_half(None) and not mechanism.keeps_ledger
    assert mechanism.example_noise == ExampleNoise(noise_multiplier=1.5, clip_norm=0.5)


def config(**settings):
    given = {"dataset": "toy", "dataset_size": 400, "model": "toy", "privacy": PRIVACY}
    return ExperimentConfig(**given | settings).to_config()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_update_norm": 1.0}, "max_update_norm (1) is a bound of privacy none"),
        ({"target_accuracy": 0.9}, "target_accuracy ends the experiment by metrics"),
        ({"selection": {"name": "by-loss"}}, "selection (by-loss) reads sums or metrics"),
        ({"strategy": {"name": "scaffold"}}, "clients send weights alone"),
        ({"strategy": {"name": "fednova"}}, "needs the metrics"),
        ({"budget_epsilon": 3.0}, "privacy dp-sgd spends none"),
    ],
)
def test_settings_that_it_does_not_go_with_are_refused_by_name(settings, says):
    with pytest.raises(InvalidConfig) as error:
        config(**settings)
    assert says in error.value.message


def test_what_follows_of_private_updates_is_private_too():
    """So robust strategies, server momentum and secure aggregation go with it."""
    for name in ("median", "krum", "fedadam"):
        assert config(strategy={"name": name}).privacy.name == "dp-sgd"
    assert config(secure_aggregation="pairs").secure
