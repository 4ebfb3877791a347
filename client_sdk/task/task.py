"""What is learnt: the seam between the federation and a model.

A task makes the initial weights, trains them on a party's data, and measures them. The coordinator
never sees it. A subclass of `Task` is all that a new kind of model needs (docs/extending.md).
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client_sdk.errors import DataError
from client_sdk.task import weights_file
from client_sdk.task.answers import Answer
from client_sdk.task.settings import TrainSettings
from serverless_fl.domain.task_name import FINGERPRINT, TASK

if TYPE_CHECKING:
    import numpy as np

    from serverless_fl.privacy.examples import NoisySteps

Weights = Mapping[str, "np.ndarray"]
"""A model's tensors by name. The form, which is names, shapes and dtypes, never changes."""


@dataclass(frozen=True)
class Result:
    """What a training gives: the new weights, the examples that it used, metrics of any name.

    The words of a metric's name bound its values (`serverless_fl.domain.metrics`): a `loss` is not
    negative, an `accuracy` lies between 0 and 1. Others may have any finite value.
    """

    weights: Weights
    num_examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    effective_steps: float | None = None  # of plain SGD that reach as far; None: not known
    spent: NoisySteps | None = None  # steps that hid single examples, if the settings asked for it


@dataclass(frozen=True)
class Party:
    """What `Task.train` gets for one client."""

    weights: Weights
    data: Any
    training: TrainSettings
    seed: int


class NotTogether(Exception):
    """Clients of this task cannot be trained as one model; the message is a reason, in words."""


class Task(ABC):
    """A model, how it trains, and how it is measured.

    Its methods are functions of their arguments: a task trains many clients, in any order and in
    several processes. To train in other processes it must be picklable. `data` is a part of the
    data set that the user gave (see `client_sdk.data.data`). An experiment that asks for a
    correction which the task does not name in `takes` is refused.
    """

    name: str = ""
    takes: frozenset[str] = frozenset()  # corrections of a gradient, as in `TrainSettings`

    @abstractmethod
    def initial(self, seed: int) -> Weights:
        """The weights that the first round trains, as a function of the seed."""

    @abstractmethod
    def train(self, weights: Weights, data: Any, training: TrainSettings, seed: int) -> Result:
        """Train from `weights` on a client's data; everything random comes from the seed."""

    @abstractmethod
    def evaluate(self, weights: Weights, data: Any) -> Mapping[str, float]:
        """Metrics of the weights on some examples; there is at least one example."""

    def require_together(self, data: Any) -> None:
        """Raise NotTogether unless `train_together` trains clients with parts of this data set."""
        raise NotTogether(f"{self.name or type(self).__name__} trains one client at a time")

    def train_together(self, parties: Sequence[Party], at_once: int) -> list[Result]:
        """Train each party as `train` does, to a tolerance, `at_once` of them as one model.

        A party's result must not depend on the others. Raises NotTogether.
        """
        raise NotTogether(f"{self.name or type(self).__name__} trains one client at a time")

    def meet(self, data: Any) -> None:  # noqa: B027  (most tasks know their form)
        """Learn the form of the weights from data, where the task does not know it yet.

        It is called with the data set before anything else.
        """

    def for_client(self, client_id: str) -> Task:
        """The task as one client has it: by default the same for all."""
        return self

    def model(self, weights: Weights) -> Any:
        """The weights as what people use: a network, an estimator; by default the weights."""
        return weights

    def predict_file(self, weights: Weights, path: Path) -> Sequence[Answer]:
        """An answer for each input in a file or folder that somebody gives to `predict`.

        Raises DataError. By default a task does not say how to read its input.
        """
        raise DataError(
            f"The task {self.name} does not say how to read {path}: give it a predict_file."
        )

    def terms(self) -> Mapping[str, str]:
        """What must be the same at every party beside the weights' form, in words by subject.

        For example {"classes": "benign, malignant", "loss": "cross entropy"}. Never code.
        """
        return {}

    def prepare(self) -> str:
        """Do what takes time before the first training; gives in words what will train."""
        return self.name

    def description(self) -> Mapping[str, str]:
        """What the SDK needs to make the task again from a model's file, by subject.

        By default nothing: only its author's code knows the task.
        """
        return {}

    def metadata(self) -> dict[str, str]:
        """What a model's file says of itself: name, terms, their fingerprint, and `description`."""
        return {
            TASK: self.name,
            "terms": json.dumps(dict(self.terms()), sort_keys=True),
            FINGERPRINT: fingerprint(self),
            **self.description(),
        }


ALL_CORRECTIONS = frozenset({"proximal_mu", "max_gradient_norm", "offset", "example_noise"})


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a model, and the number of examples that they are means over."""

    metrics: Mapping[str, float]
    examples: int


@dataclass(frozen=True)
class LocalUpdate:
    """What a client uploads: weights (safetensors), examples trained on, metrics.

    `effective_steps` and `spent` as of `Result`.
    """

    weights: bytes
    num_examples: int
    metrics: dict[str, float]
    effective_steps: float | None = None
    spent: NoisySteps | None = None


def fingerprint(task: Task) -> str:
    """A digest of what must be the same at every party: name, terms, and the weights' form."""
    form = {name: [kind, list(shape)] for name, (kind, shape) in form_of(task).items()}
    content = [task.name, dict(task.terms()), form]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def form_of(task: Task) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The dtype, as safetensors names it, and the shape of each tensor."""
    return weights_file.form(task.initial(0))
