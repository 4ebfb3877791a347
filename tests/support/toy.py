"""A task in NumPy: a straight line through points. Its steps can be checked by hand."""

from __future__ import annotations

import os

import numpy as np

from client_sdk.data.data import Arrays
from client_sdk.data.seeds import SeededRandom
from client_sdk.task.task import Result, Task

POINTS = Arrays(np.arange(40.0), 3 * np.arange(40.0) + 1)


class Line(Task):
    """y = slope x + offset, by gradient descent on the mean squared error of scaled inputs."""

    name = "line"

    def initial(self, seed):
        return {"line": SeededRandom(seed).uniform((2,), 1.0).astype(np.float64)}

    def terms(self):
        return {"loss": "mean squared error"}

    def train(self, weights, data, training, seed):
        line = weights["line"].copy()
        inputs = np.stack([data.x / 40, np.ones(len(data))], 1)
        for _ in range(training.epochs):
            line -= training.learning_rate * 2 * inputs.T @ (inputs @ line - data.y) / len(data)
        return Result({"line": line}, len(data), {"train_loss": _error(line, data)})

    def evaluate(self, weights, data):
        return {"loss": _error(weights["line"], data), "bias": float(weights["line"][1])}


def _error(line, data):
    return float(np.mean((line[0] * data.x / 40 + line[1] - data.y) ** 2))


class Failing(Line):
    """Raises what it was told to, or ends its process."""

    def __init__(self, error=None):
        self.error = error

    def train(self, weights, data, training, seed):
        if self.error is None:
            os._exit(9)
        raise self.error


class Reshaping(Line):
    """Gives weights of another form."""

    def train(self, weights, data, training, seed):
        return Result({"line": weights["line"].astype(np.float32)}, len(data))
