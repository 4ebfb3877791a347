"""What a model answers for inputs that somebody has in a file: `predict --task`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from client_sdk.errors import DataError

Reader = Callable[[Path], Any]
"""Reads a file or folder as the inputs of a model: an array [N, ...], or a tuple of some."""


@dataclass(frozen=True)
class Answer:
    """A class or a number for one input. `probability` is None where the model gives none."""

    answer: str | float
    probability: float | None = None


def read_inputs(path: Path) -> np.ndarray:
    """Read the inputs in a NumPy file: .npy, or the array `x` of an .npz. Raises DataError."""
    if path.suffix.lower() not in (".npy", ".npz"):
        raise DataError(
            f"{path}: the task reads .npy, or x in .npz; give it a reader of its own for others."
        )
    try:
        with path.open("rb") as file:
            found: Any = np.load(file, allow_pickle=False)
            found = found["x"] if isinstance(found, np.lib.npyio.NpzFile) else found
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except KeyError as error:
        raise DataError(f"{path} has no array x.") from error
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} is no NumPy file of numbers: {error}") from error
    if not isinstance(found, np.ndarray) or not found.ndim:
        raise DataError(f"{path} has no rows.")
    return found


def answers_of(
    values: np.ndarray, probabilities: np.ndarray | None, classes: Sequence[Any]
) -> list[Answer]:
    """An answer for each row: `values` [N] are numbers, or places of `classes` where it has any.

    `probabilities` are [N, C].
    """
    best = [None] * len(values) if probabilities is None else probabilities.max(1).tolist()
    return [
        Answer(str(classes[int(value)]) if len(classes) else float(value), share)
        for value, share in zip(values.tolist(), best, strict=True)
    ]
