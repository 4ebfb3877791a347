"""A whole simulation, with a trainer that does as it is told."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from app.wire.schema import ExperimentConfig
from client_sdk import datasets, models
from client_sdk.simulate import Simulation
from client_sdk.train import LocalUpdate


class Diverging:
    """Sends weights that are finite, and so large that every answer of the model is NaN."""

    async def train(self, client_id, indices, data, task):
        base = safetensors.numpy.load(data)
        huge = {name: np.full_like(values, 3e38) for name, values in base.items()}
        return LocalUpdate(safetensors.numpy.save(huge), len(indices), {})


@pytest.mark.parametrize("fresh_store", ["sqlite"], indirect=True)
async def test_a_global_model_that_diverged_is_reported_and_ends_nothing(federation):
    digits = datasets.load("digits", Path("nowhere"))
    spec = models.spec_for("auto", digits.shape, len(digits.classes))
    config = ExperimentConfig(
        dataset="digits",
        dataset_size=len(digits.train_y),
        model=spec.name,
        clients=2,
        clients_per_round=2,
        rounds=2,
    )
    simulation = Simulation(
        federation.admin, digits, spec, config, Diverging(), secret="of this test"
    )
    await simulation.create()
    outcome = await simulation.run()
    assert outcome.experiment.state == "completed"
    assert [row.loss for row in outcome.rows] == [1e30, 1e30]  # the largest there is
    assert all(0 <= row.accuracy < 0.3 for row in outcome.rows)
