"""`benchmarks.epsilons`: the noise that it takes, and its table."""

from __future__ import annotations

import pytest

from benchmarks import epsilons
from serverless_fl.privacy.sampling import sampled_epsilon
from serverless_fl.wire.config import ExperimentConfig


@pytest.mark.parametrize("epsilon", epsilons.CLIP_NORMS)
def test_the_noise_is_the_smallest_of_which_all_rounds_fit(epsilon):
    noise = epsilons.noise_for(epsilon, 0.1, 15, 1e-5)
    assert sampled_epsilon(0.1, noise, 15, 1e-5) <= epsilon
    assert sampled_epsilon(0.1, noise - 0.001, 15, 1e-5) > epsilon


@pytest.mark.parametrize("extent", [epsilons.SHORT, epsilons.FULL])
def test_the_coordinator_takes_the_settings(extent):
    for epsilon in (None, *epsilons.CLIP_NORMS):
        settings = epsilons.settings_of(epsilon, extent["clients_per_round"], extent["rounds"])
        given = {"dataset": "mnist", "dataset_size": 60_000, "model": "mnist-cnn"}
        config = ExperimentConfig(**given, clients=epsilons.CLIENTS, **settings).to_config()
        assert config.secret_cohorts == (epsilon is not None)


def test_a_row_has_the_mean_of_its_runs_and_the_epsilon_of_the_ledger():
    def run(wanted, accuracy, seed=0):
        private = {"epsilon": None, "noise_multiplier": None, "clip_norm": None}
        if wanted is not None:
            private = {"epsilon": 7.996, "noise_multiplier": 0.71, "clip_norm": 0.8}
        return {"wanted": wanted, "accuracy": accuracy, "seed": seed, **private}

    record = {"runs": [run(8.0, 0.9), run(None, 0.96), run(8.0, 0.92, 1)]}
    assert epsilons.table(record)[2:] == [
        ["without privacy", "-", "-", "96.0%", "1"],
        ["8.00", "0.71", "0.8", "91.0% (90.0% to 92.0%)", "2"],
    ]
