"""Experiments on the 8x8 digits, which come without a network."""

from __future__ import annotations

from pathlib import Path

import httpx

from client_sdk.data import datasets
from client_sdk.simulation.simulate import Simulation
from client_sdk.task import model_file, models
from client_sdk.task.pictures import picture_task
from serverless_fl.wire.config import ExperimentConfig
from tests.support.plain_http import create


def untrained() -> tuple[bytes, int]:
    """The file of an untrained network for the digits, and how many examples they have."""
    digits = datasets.load("digits", Path("nowhere"))
    spec = models.spec_for("auto", digits.shape, len(digits.classes))
    data = model_file.to_bytes(models.build(spec, 0), model_file.describe(digits, spec))
    return data, len(digits.train_y)


def create_digits_experiment(admin: httpx.Client, clients: int) -> tuple[str, str]:
    """One of two rounds that parties may join, by plain HTTP: its id and enrolment key."""
    weights, examples = untrained()
    return create(
        admin,
        "digits",
        weights,
        dataset="digits",
        dataset_size=examples,
        model="digits-cnn",
        clients=clients,
        clients_per_round=clients,
        local_epochs=1,
    )


def digits_simulation(
    federation, trainer, *, clients, rounds, clients_per_round=None
) -> Simulation:
    """One that is yet to be created over the federation's coordinator."""
    digits = datasets.load("digits", Path("nowhere"))
    task = picture_task(digits)
    config = ExperimentConfig(
        dataset="digits",
        dataset_size=len(digits.train_y),
        model=task.name,
        clients=clients,
        clients_per_round=clients_per_round or clients,
        rounds=rounds,
    )
    return Simulation(
        federation.admin, task, config, trainer, test=digits.test, secret="of this test"
    )
