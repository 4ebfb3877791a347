"""Ditto: each client trains a model of its own beside the global one, and near it.

Li et al., "Ditto: Fair and Robust Federated Learning Through Personalization", ICML 2021,
arXiv:2012.04221, algorithm 1: v <- v - eta (gradient + lambda (v - w)), where w is the global model
that the client got and v its own, which never leaves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from client_sdk.data.seeds import derive_seed
from client_sdk.errors import BadSettings
from client_sdk.task.partly_shared import PartlyShared
from client_sdk.task.settings import TrainSettings
from client_sdk.task.task import Result, Task, Weights

_OWN = "personal/"  # begins the names of the tensors of a client's own model
_CORRECTIONS = frozenset({"proximal_mu", "offset"})


def ditto(task: Task, folder: Path | str, attachment: float = 0.1) -> PartlyShared:
    """Give a task whose clients also train models of their own, kept in files of `folder`.

    `attachment` is the paper's lambda: 0 leaves each client alone, a large one gives all the global
    model. Metrics of a client's own model are named `personal_...`. A client's own model begins as
    the first global model that it gets. Choose it when the clients' data differ much, and each
    wants the model that suits it best. It trains twice as long.

    Raises BadSettings for a task that does not correct gradients (`Task.takes`).
    """
    if not task.takes >= _CORRECTIONS:
        raise BadSettings(f"Ditto corrects gradients, which the task {task.name} does not do.")
    return PartlyShared(_Twins(task, attachment), ["*", f"!{_OWN}*"], folder)


class _Twins(Task):
    """Trains the global model and a client's own one; the weights are those of both."""

    def __init__(self, task: Task, attachment: float) -> None:
        self.task, self.attachment = task, attachment
        self.name, self.takes = task.name, task.takes

    def meet(self, data: Any) -> None:
        self.task.meet(data)

    def prepare(self) -> str:
        return self.task.prepare()

    def terms(self) -> Mapping[str, str]:
        return self.task.terms()

    def initial(self, seed: int) -> Weights:
        return _both(*[self.task.initial(seed)] * 2)

    def train(self, weights: Weights, data: Any, training: TrainSettings, seed: int) -> Result:
        shared, own = self._models(weights)
        result = self.task.train(shared, data, training, seed)
        # lambda (v - w) is lambda (v - v0), a proximal term, and lambda (v0 - w), an offset.
        offset = {
            name: (self.attachment * (value - shared[name])).astype(value.dtype)
            for name, value in own.items()
            if value.dtype.kind == "f"
        }
        near = replace(training, proximal_mu=self.attachment, offset=offset)
        personal = self.task.train(own, data, near, derive_seed(seed, "ditto"))
        return replace(result, weights=_both(result.weights, personal.weights))

    def evaluate(self, weights: Weights, data: Any) -> Mapping[str, float]:
        shared, own = self._models(weights)
        personal = self.task.evaluate(own, data)
        found = {f"personal_{name}": value for name, value in personal.items()}
        return {**self.task.evaluate(shared, data), **found}

    def model(self, weights: Weights) -> Any:
        """A client's own model; without a client the global one."""
        return self.task.model(self._models(weights)[1])

    def _models(self, weights: Weights) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The global model and the client's own one, which is the global one at first."""
        shared = {n: value for n, value in weights.items() if not n.startswith(_OWN)}
        own = {n.removeprefix(_OWN): v for n, v in weights.items() if n.startswith(_OWN)}
        first = self.task.initial(0)  # what `PartlyShared` gives a client that has kept nothing
        is_new = all(np.array_equal(own[name], value) for name, value in first.items())
        return shared, shared if is_new else own


def _both(shared: Weights, own: Weights) -> dict[str, Any]:
    return {**shared, **{f"{_OWN}{name}": value for name, value in own.items()}}
