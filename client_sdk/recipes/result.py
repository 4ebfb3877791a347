"""The result of a simulation, for scripts and notebooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from client_sdk.data.data import Data
from client_sdk.data.splits.drawing import Drawn
from client_sdk.results import plots
from client_sdk.results.by_site import BySite, by_site, by_test_site
from client_sdk.results.version_figures import figures
from client_sdk.simulation.outcome import Outcome, Row
from client_sdk.task import weights_file
from client_sdk.task.task import Task, Weights
from serverless_fl.domain.records import client_id


@dataclass(frozen=True)
class SimulationResult:
    """The course of a simulation: a row for each round, and the last global model.

    `outcome` has all that the coordinator recorded, also the best model's file. `drawn` says who
    had what; it is None where the coordinator shared the data out equally.
    """

    task: Task = field(repr=False)
    outcome: Outcome = field(repr=False)
    drawn: Drawn | None = field(default=None, repr=False)
    test: Data | None = field(default=None, repr=False)
    test_owners: np.ndarray | None = field(default=None, repr=False)

    @property
    def rows(self) -> list[Row]:
        """The rounds, with the metrics of each new global model on the test set."""
        return self.outcome.rows

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the last global model on the test set; empty without rounds."""
        return self.rows[-1].metrics if self.rows else {}

    @property
    def best(self) -> Row:
        """The round with the best model: by the target metric or accuracy, then by loss."""
        return self.outcome.best_row

    @property
    def sites(self) -> BySite | None:
        """The last model at each client, on the examples that it held out: mean, worst, spread.

        None where the clients' data are alike.
        """
        if self.drawn is None:
            return None
        clients = range(len(self.drawn.parts))
        names = self.drawn.names or [client_id(slot) for slot in clients]
        return by_site(self.outcome.models, names, [len(part) for part in self.drawn.parts])

    @cached_property
    def test_sites(self) -> BySite | None:
        """The last model on the test examples of each site: mean, worst, spread.

        A site's test examples are those that it was given or that it holds out for the test set.
        None where the test set names no sites.
        """
        if self.test is None:
            return None
        return by_test_site(self.task, self.outcome.weights, self.test, self.test_owners)

    @property
    def weights(self) -> Weights:
        """The last global model's tensors by name."""
        return weights_file.read(self.outcome.weights)

    @property
    def model(self) -> Any:
        """The last global model as its library has it: a torch module, a fitted estimator."""
        return self.task.model(self.weights)

    def save(self, path: Path | str) -> None:
        """Write the last global model as a safetensors file."""
        Path(path).write_bytes(self.outcome.weights)

    def plot(self, path: Path | str | None = None) -> bytes:
        """Draw the metrics by round: the bytes of a PNG, written to `path` where one is given."""
        found = figures(self.outcome.experiment.history, self.outcome.models)
        picture = plots.rounds(self.rows, found, self.task.name)
        if path is not None:
            Path(path).write_bytes(picture)
        return picture

    def _repr_png_(self) -> bytes | None:
        """The plot, in a notebook."""
        return self.plot() if self.rows else None
