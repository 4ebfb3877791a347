"""A task made of three functions, for a model that needs no library of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from client_sdk.errors import TrainingFailed
from client_sdk.task.settings import TrainSettings
from client_sdk.task.task import Result, Task, Weights

Initial = Callable[[int], Weights]
Train = Callable[[Weights, Any, TrainSettings, int], "Result | Weights"]
Evaluate = Callable[[Weights, Any], Mapping[str, float]]


class FunctionTask(Task):
    """Calls three functions, which have the arguments of the methods of `Task`.

    `train` may give a Result, or the new weights alone: then all examples count, and there are no
    metrics. `terms` says what must be the same at every party, in words by subject. `takes` are the
    corrections of a gradient that `train` makes (`TrainSettings`).

    >>> import numpy as np
    >>> mean = FunctionTask(
    ...     initial=lambda seed: {"mean": np.zeros(1)},
    ...     train=lambda weights, data, training, seed: {"mean": np.mean(data.x, keepdims=True)},
    ...     evaluate=lambda weights, data: {"loss": float(np.var(data.x - weights["mean"]))},
    ...     name="mean",
    ... )
    >>> mean.initial(0)
    {'mean': array([0.])}
    """

    def __init__(
        self,
        initial: Initial,
        train: Train,
        evaluate: Evaluate,
        *,
        name: str = "function",
        terms: Mapping[str, str] | None = None,
        takes: Collection[str] = (),
    ) -> None:
        self.name = name
        self.takes = frozenset(takes)
        self._initial, self._train, self._evaluate = initial, train, evaluate
        self._terms = dict(terms or {})

    def initial(self, seed: int) -> Weights:
        return self._initial(seed)

    def train(self, weights: Weights, data: Any, training: TrainSettings, seed: int) -> Result:
        found = self._train(weights, data, training, seed)
        if isinstance(found, Result):
            return found
        if isinstance(found, Mapping):
            return Result(found, len(data))
        raise TrainingFailed(
            f"The function `train` of {self.name} must give a Result or the new weights, not a "
            f"{type(found).__name__}."
        )

    def evaluate(self, weights: Weights, data: Any) -> Mapping[str, float]:
        return self._evaluate(weights, data)

    def terms(self) -> Mapping[str, str]:
        return self._terms
