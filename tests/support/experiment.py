"""An experiment on the digits, for parties that join it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx

from client_sdk.data import datasets
from client_sdk.task import models


def create_digits_experiment(http: httpx.Client, clients: int) -> tuple[str, str]:
    """By plain HTTP, as anyone may who reads the API's documentation."""
    digits = datasets.load("digits", Path("nowhere"))
    spec = models.spec_for("auto", digits.shape, 10)
    weights = models.to_bytes(models.build(spec, 0), models.describe(digits, spec))
    config = {
        "dataset": "digits",
        "dataset_size": len(digits.train_y),
        "model": spec.name,
        "clients": clients,
        "clients_per_round": clients,
        "rounds": 2,
        "local_epochs": 1,
    }
    made = http.post("/experiments", json={"config": config}).json()
    sha = hashlib.sha256(weights).hexdigest()
    path = f"/experiments/{made['id']}/initial-model"
    http.put(f"{path}/parts/0", params={"sha256": sha}, content=weights).raise_for_status()
    http.post(path, json={"sha256": sha, "parts": [sha]}).raise_for_status()
    return made["id"], made["enrolment_key"]
