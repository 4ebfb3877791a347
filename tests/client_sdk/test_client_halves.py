"""Whole runs of strategies that clients have a part in."""

import pytest

from serverless_fl.aggregation.fednova import effective_steps
from tests.support.learners import learn

pytestmark = pytest.mark.usefixtures("one_thread")


async def test_fednova_gets_the_steps_of_each_client(quick):
    """14 examples less one held out are 4 batches: 8 steps in 2 epochs."""
    found = await learn(quick, strategy="fednova", momentum=0.5)
    for number in range(1, 5):
        round_ = await quick.admin.round(found.experiment, number)
        steps = [update.metrics["effective_steps"] for update in round_.updates]
        assert steps == pytest.approx([effective_steps(8, 0.5)] * 2)


async def test_other_strategies_get_no_steps(quick):
    found = await learn(quick, rounds=1)
    (update, _) = (await quick.admin.round(found.experiment, 1)).updates
    assert "effective_steps" not in update.metrics


async def test_fedprox_is_a_setting_of_the_training(quick):
    runs = [
        await learn(quick, rounds=1, proximal_mu=mu, max_gradient_norm=norm)
        for mu, norm in ((0.0, None), (1.0, None), (0.0, 0.1))
    ]
    models = [await quick.admin.download_model(found.experiment) for found in runs]
    assert len(set(models)) == 3
