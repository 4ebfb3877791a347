"""Experiments that have played rounds, without training: the updates are numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from tests.support.federation import weights
from tests.support.plain_http import bearer, create, enrol

Metrics = Callable[[int, str], Mapping[str, float]]


def begin(
    http: httpx.Client, name: str, clients: int = 2, **changes: Any
) -> tuple[str, dict[str, str]]:
    """A running experiment: its id, and the token of each client by its id."""
    settings = {"clients_per_round": clients, "rounds": 3} | changes
    experiment, key = create(http, name, clients=clients, **settings)
    joined = [enrol(http, experiment, key, f"site {n}") for n in range(clients)]
    return experiment, {client["client_id"]: client["token"] for client in joined}


def finish_round(
    http: httpx.Client,
    experiment: str,
    members: Mapping[str, str],
    number: int,
    metrics: Metrics = lambda number, client: {},
) -> None:
    """Send the updates of the round's cohort, with the metrics of each client."""
    data = weights(float(number))
    sha = hashlib.sha256(data).hexdigest()
    path = f"/experiments/{experiment}/rounds/{number}/update"
    cohort = http.get(f"/experiments/{experiment}").json()["current_round"]["cohort"]
    for client in cohort:
        key = bearer(members[client])
        part = {"params": {"sha256": sha}, "content": data}
        http.put(f"{path}/parts/0", headers=key, **part).raise_for_status()
        commit = {"sha256": sha, "parts": [sha], "num_examples": 5}
        commit["metrics"] = dict(metrics(number, client))
        http.post(path, headers=key, json=commit).raise_for_status()


def played(http: httpx.Client, name: str, metrics: Metrics, rounds: int = 3, **changes: Any) -> str:
    """The id of an experiment whose first `rounds` rounds are closed."""
    experiment, members = begin(http, name, **changes)
    for number in range(1, rounds + 1):
        finish_round(http, experiment, members, number, metrics)
    return experiment
