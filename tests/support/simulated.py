"""Small simulations of the 8x8 digits, whose whole cohort is all clients."""

from __future__ import annotations

from pathlib import Path

from client_sdk.data import datasets
from client_sdk.simulation.simulate import Simulation
from client_sdk.task import models
from serverless_fl.wire.schema import ExperimentConfig


def digits_simulation(federation, trainer, *, clients, rounds) -> Simulation:
    """One that is yet to be created, over the federation's coordinator."""
    digits = datasets.load("digits", Path("nowhere"))
    spec = models.spec_for("auto", digits.shape, len(digits.classes))
    config = ExperimentConfig(
        dataset="digits",
        dataset_size=len(digits.train_y),
        model=spec.name,
        clients=clients,
        clients_per_round=clients,
        rounds=rounds,
    )
    return Simulation(federation.admin, digits, spec, config, trainer, secret="of this test")
