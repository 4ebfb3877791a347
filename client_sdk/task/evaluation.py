"""What a model answers on the test set, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from client_sdk.data.data import Arrays
from client_sdk.task import weights_file
from client_sdk.task.pictures import PictureTask

MAX_MATRIX = 100  # classes; nobody reads a larger confusion matrix


@dataclass(frozen=True)
class Classes:
    """Answers on a test set, counted: `confusion[t][p]` examples of class t were taken for p."""

    names: tuple[str, ...]
    confusion: list[list[int]]

    @property
    def examples(self) -> list[int]:
        """How many there are of each class."""
        return [sum(row) for row in self.confusion]

    @property
    def accuracy(self) -> float:
        """The share of right answers among all."""
        right = sum(row[label] for label, row in enumerate(self.confusion))
        return right / max(sum(self.examples), 1)

    @property
    def by_class(self) -> list[float | None]:
        """The share of right answers (recall) in each class; None for one without examples."""
        pairs = zip(self.confusion, self.examples, strict=True)
        return [row[t] / of if of else None for t, (row, of) in enumerate(pairs)]

    @property
    def worst(self) -> int:
        """The class with the lowest accuracy, the first of equals."""
        found = [(share, t) for t, share in enumerate(self.by_class) if share is not None]
        return min(found)[1]

    def taken_for(self, label: int) -> tuple[int, int] | None:
        """The class that examples of `label` were most often mistaken for, and how often."""
        wrong = [(-count, p) for p, count in enumerate(self.confusion[label]) if p != label]
        count, predicted = min(wrong, default=(0, 0))
        return (predicted, -count) if count else None


def by_class(task: PictureTask, weights: bytes, test: Arrays) -> Classes:
    """A model (safetensors) on the central test set. Raises DataError where it does not fit."""
    return count(task.about.classes, task.answers(weights_file.read(weights), test), test.y)


def count(names: Sequence[str], answers: np.ndarray, labels: Any) -> Classes:
    """Count answers [N] to examples of these labels [N]; both are places in `names`."""
    cells = np.zeros((len(names), len(names)), np.int64)
    np.add.at(cells, (np.asarray(labels), answers), 1)
    return Classes(tuple(names), cells.tolist())
