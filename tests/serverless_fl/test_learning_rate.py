"""Learning-rate schedules, by hand, and beside PyTorch's where that has the same."""

from dataclasses import replace

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR

from serverless_fl.domain.choice import Choice
from serverless_fl.domain.errors import InvalidConfig
from serverless_fl.domain.experiment import Config
from serverless_fl.domain.provenance import config_digest
from serverless_fl.learning_rate import CosineRate, StepRate, learning_rate_in

HALVING = {"name": "step", "step_rounds": 1, "step_factor": 0.5}


def rates(schedule, rounds=4, **settings):
    config = Config(
        dataset="d", dataset_size=90, model="m", rounds=rounds, learning_rate=0.8,
        learning_rate_schedule=Choice.of(schedule), **settings,
    )  # fmt: skip
    return [learning_rate_in(config, number) for number in range(1, rounds + 1)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.8, 0.8, 0.8, 0.8]),
        ({"name": "constant", "warmup_rounds": 3}, [0.2, 0.4, 0.6, 0.8]),
        ({"name": "step", "step_rounds": 2, "step_factor": 0.5}, [0.8, 0.8, 0.4, 0.4]),
        (HALVING | {"warmup_rounds": 1}, [0.4, 0.4, 0.2, 0.1]),
        ("cosine", [0.8, 0.68284271, 0.4, 0.11715729]),
        ({"name": "cosine", "final_share": 0.5}, [0.8, 0.741421356, 0.6, 0.458578644]),
    ],
    ids=str,
)  # fmt: skip
def test_the_rates_of_four_rounds(schedule, expected):
    assert rates(schedule) == pytest.approx(expected)


def test_the_factor_applies_beside_the_schedule():
    settings = {"name": "step", "step_rounds": 2, "step_factor": 0.5}
    assert rates(settings, learning_rate_factor=0.5) == pytest.approx([0.8, 0.4, 0.1, 0.05])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (CosineRate(final_share=0.1), lambda o: CosineAnnealingLR(o, 7, 0.1)),
        (StepRate(step_rounds=3, step_factor=0.3), lambda o: StepLR(o, 3, 0.3)),
    ],
    ids=["cosine", "step"],
)  # fmt: skip
def test_rates_are_those_of_pytorch(ours, theirs):
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = theirs(optimiser)
    for number in range(1, 8):
        assert ours.share(number, 7) == pytest.approx(optimiser.param_groups[0]["lr"], abs=1e-12)
        optimiser.step()
        schedule.step()


def test_a_rate_never_becomes_nothing():
    assert min(rates({"name": "cosine"}, rounds=1)) == 0.8
    assert min(rates({"name": "step", "step_rounds": 1, "step_factor": 1e-300})) > 0


def test_an_experiment_from_before_has_the_same_digest():
    """The default is left out of what is hashed."""
    of_before = Config.of({"dataset": "d", "dataset_size": 90, "model": "m"})
    assert of_before.learning_rate_schedule == Choice("constant")
    named = replace(of_before, learning_rate_schedule=Choice("constant"))
    assert config_digest(named) == config_digest(of_before)
    other = replace(of_before, learning_rate_schedule=Choice("cosine"))
    assert config_digest(other) != config_digest(of_before)


def test_a_schedule_of_another_release_is_named():
    with pytest.raises(InvalidConfig, match="There is no learning rate schedule 'sawtooth'"):
        rates("sawtooth")
