"""Our strategies beside Flower's, on the same random rounds: a minute, most of it installation.

    python -m benchmarks.peers.strategies

Flower runs in an environment of its own, made on first use. Both get the same updates, numbers of
examples and losses for ten rounds, and the models after each are compared. FedNova, SCAFFOLD,
FedDyn and the geometric median are not in Flower; tests compare them with their authors' formulas.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.peers.peers import HERE, environment
from benchmarks.tables import Row, Table, command
from serverless_fl.aggregation.bulyan import Bulyan
from serverless_fl.aggregation.fedadagrad import FedAdagrad
from serverless_fl.aggregation.fedadam import FedAdam
from serverless_fl.aggregation.fedavg import FedAvg
from serverless_fl.aggregation.fedavgm import FedAvgM
from serverless_fl.aggregation.fedyogi import FedYogi
from serverless_fl.aggregation.in_memory import aggregate
from serverless_fl.aggregation.krum import Krum
from serverless_fl.aggregation.median import Median
from serverless_fl.aggregation.multi_krum import MultiKrum
from serverless_fl.aggregation.qfedavg import QFedAvg
from serverless_fl.aggregation.strategy import Strategy, TrainingFacts, UpdateFacts
from serverless_fl.aggregation.trimmed_mean import TrimmedMean

ROUNDS, CLIENTS, ELEMENTS = 10, 16, 200  # Bulyan needs 15 for f = 3, below which its choices tie
APART = 1e-6  # at most, as a share of the larger model's norm
SETTINGS = {
    **{"server_learning_rate": 0.1, "server_momentum": 0.9, "learning_rate": 0.05},
    **{"beta1": 0.9, "beta2": 0.99, "tau": 0.001, "byzantine": 3, "q": 0.5},
}
FEDADAM_AS_IT_IS = "fedadam as it is"  # begins v at 0 and corrects a bias; the paper does neither


@dataclass(frozen=True)
class Comparison:
    """The models after each round [rounds, elements], ours and Flower's."""

    name: str
    ours: np.ndarray
    theirs: np.ndarray

    @property
    def apart(self) -> float:
        """The largest distance after a round, as a share of the larger of the two norms."""
        scales = np.maximum(*(np.linalg.norm(m, axis=1) for m in (self.ours, self.theirs)))
        return float((np.linalg.norm(self.ours - self.theirs, axis=1) / scales).max())


def strategies() -> list[Strategy]:
    s = SETTINGS
    eta, tau, f = s["server_learning_rate"], s["tau"], int(s["byzantine"])
    betas = {"beta1": s["beta1"], "beta2": s["beta2"]}
    return [
        FedAvg(),
        FedAvgM(server_learning_rate=eta, server_momentum=s["server_momentum"]),
        FedAdagrad(server_learning_rate=eta, tau=tau),
        FedYogi(server_learning_rate=eta, tau=tau, **betas),
        FedAdam(server_learning_rate=eta, tau=tau, **betas),
        Median(),
        TrimmedMean(byzantine=f),
        Krum(byzantine=f),
        MultiKrum(byzantine=f),
        Bulyan(byzantine=f),
        QFedAvg(q=s["q"]),
    ]


def compare(seed: int = 0) -> list[Comparison]:
    """Run both sides. Raises CalledProcessError where Flower's fails."""
    random = np.random.default_rng(seed)
    rounds = {
        "base": random.normal(size=ELEMENTS),
        "updates": random.normal(size=(ROUNDS, CLIENTS, ELEMENTS)),
        "losses": random.uniform(0.1, 3, size=(ROUNDS, CLIENTS)),
        "examples": random.integers(1, 600, size=CLIENTS),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "rounds.npz", **rounds)
        app = [environment("flower"), HERE / "strategies_app.py", folder, json.dumps(SETTINGS)]
        subprocess.run(app, check=True)
        with np.load(folder / "theirs.npz") as theirs:
            models = {strategy.name: ours(strategy, rounds) for strategy in strategies()}
            models[FEDADAM_AS_IT_IS] = models["fedadam"]
            return [Comparison(name, found, theirs[name]) for name, found in models.items()]


def ours(strategy: Strategy, rounds: dict[str, np.ndarray]) -> np.ndarray:
    """The models after each round [rounds, elements]."""
    training = TrainingFacts(
        local_epochs=1, batch_size=1, learning_rate=SETTINGS["learning_rate"], momentum=0.0
    )
    model, state, models = rounds["base"], None, []
    for updates, losses in zip(rounds["updates"], rounds["losses"], strict=True):
        facts = [
            UpdateFacts(client=i, num_examples=int(n), metrics={"loss_before": float(loss)})
            for i, (n, loss) in enumerate(zip(rounds["examples"], losses, strict=True))
        ]
        model, state = aggregate(strategy, model, updates, facts, state=state, training=training)
        models.append(model)
    return np.array(models)


def measure(_full: bool = False, _data_dir: Path = Path()) -> Table:
    table = Table(
        "Strategies beside Flower's",
        "python -m benchmarks.peers.strategies",
        "Flower 1.42",
    )
    for found in compare():
        same = found.name != FEDADAM_AS_IT_IS
        table.rows.append(
            Row(
                f"{found.name}: how far the models of {ROUNDS} rounds are apart",
                f"{found.apart:.1e}",
                "",
                None,
                f"at most {APART:g}" if same else "",
                found.apart <= APART if same else None,
            )
        )
        table.data[found.name] = found.apart
    table.notes.append(
        f"{CLIENTS} clients, {ELEMENTS} weights, {ROUNDS} rounds, float64. Flower gets what its "
        "rules need to be the papers': FedAdagrad, FedAdam and FedYogi a second moment that begins "
        "at tau squared, FedAdam a round in which its correction of a bias is 1, Multi-Krum equal "
        "numbers of examples, q-FedAvg the loss before training. Bulyan is its former one; the "
        "present one does not remove what it chose. `fedadam as it is` gets none of that."
    )
    return table


if __name__ == "__main__":
    command(__doc__, measure)
