"""Flower's strategies on the rounds in FOLDER/rounds.npz; the models after each go to theirs.npz.

    python strategies_app.py FOLDER SETTINGS

It runs in Flower's environment. A strategy of Flower gets what its server would give it, without a
server: replies with arrays and metrics.
"""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.server.strategy import aggregate as former
from flwr.serverapp import strategy as flower

logging.disable()
KEY = "w"


def replies(updates: np.ndarray, examples: np.ndarray, losses: np.ndarray) -> list:
    """One a client: its weights, its number of examples and the global model's loss there."""
    found = []
    for update, count, loss in zip(updates, examples, losses, strict=True):
        metrics = MetricRecord({"num-examples": int(count), "loss_before": float(loss)})
        content = RecordDict({"arrays": record(update), "metrics": metrics})
        found.append(SimpleNamespace(content=content, has_error=lambda: False))
    return found


def record(weights: np.ndarray) -> ArrayRecord:
    return ArrayRecord({KEY: Array(np.array(weights))})


def run(
    strategy, base: np.ndarray, rounds: dict, *, alike: bool = False, first: int = 1
) -> list[np.ndarray]:
    """The model after each round. `alike`: all clients claim one number of examples.

    `first` is the first round's number.
    """
    models, weights = [], base
    for number, (updates, losses) in enumerate(
        zip(rounds["updates"], rounds["losses"], strict=True), first
    ):
        if isinstance(strategy, flower.fedopt.FedOpt):
            strategy.current_arrays = {KEY: weights}
        elif number == first or isinstance(strategy, flower.QFedAvg):
            strategy.current_arrays = record(weights)
        counts = np.ones(len(updates)) if alike else rounds["examples"]
        arrays, _ = strategy.aggregate_train(number, replies(updates, counts, losses))
        weights = arrays[KEY].numpy()
        models.append(weights)
    return models


def begun(strategy, tau: float, base: np.ndarray):
    """An adaptive strategy whose second moment begins at tau squared, as in the paper."""
    strategy.v_t = {KEY: np.full_like(base, tau**2)}
    return strategy


def former_bulyan(updates: np.ndarray, byzantine: int) -> np.ndarray:
    """Flower's former Bulyan, which removes each choice; the present one does not."""
    results = [([update], 1) for update in updates]
    found = former.aggregate_bulyan(results, byzantine, former.aggregate_krum, to_keep=0)
    return found[0]


def main() -> None:
    folder, s = Path(sys.argv[1]), json.loads(sys.argv[2])
    rounds = dict(np.load(folder / "rounds.npz"))
    base, f = rounds["base"], s["byzantine"]
    clients = rounds["updates"].shape[1]
    eta, tau = s["server_learning_rate"], s["tau"]
    betas = {"beta_1": s["beta1"], "beta_2": s["beta2"]}
    cases: dict[str, Callable[[], list[np.ndarray]]] = {
        "fedavg": lambda: run(flower.FedAvg(), base, rounds),
        "fedavgm": lambda: run(
            flower.FedAvgM(server_learning_rate=eta, server_momentum=s["server_momentum"]),
            *(base, rounds),
        ),
        "fedadagrad": lambda: run(
            begun(flower.FedAdagrad(eta=eta, tau=tau), tau, base), base, rounds
        ),
        "fedyogi": lambda: run(
            begun(flower.FedYogi(eta=eta, tau=tau, **betas), tau, base), base, rounds
        ),
        "fedadam": lambda: run(
            begun(flower.FedAdam(eta=eta, tau=tau, **betas), tau, base),
            *(base, rounds),
            first=10**6,  # where the correction of the bias is 1
        ),
        "fedadam as it is": lambda: run(flower.FedAdam(eta=eta, tau=tau, **betas), base, rounds),
        "median": lambda: run(flower.FedMedian(), base, rounds),
        "trimmed-mean": lambda: run(flower.FedTrimmedAvg(beta=f / clients), base, rounds),
        "krum": lambda: run(flower.Krum(num_malicious_nodes=f), base, rounds),
        "multi-krum": lambda: run(
            flower.MultiKrum(num_malicious_nodes=f, num_nodes_to_select=clients - f),
            *(base, rounds),
            alike=True,
        ),
        "bulyan": lambda: [former_bulyan(updates, f) for updates in rounds["updates"]],
        "qfedavg": lambda: run(
            flower.QFedAvg(
                client_learning_rate=s["learning_rate"], q=s["q"], train_loss_key="loss_before"
            ),
            *(base, rounds),
        ),
    }
    np.savez(folder / "theirs.npz", **{name: case() for name, case in cases.items()})


if __name__ == "__main__":
    main()
