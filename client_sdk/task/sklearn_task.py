"""A task of a scikit-learn estimator: `SklearnTask(LogisticRegression())`.

scikit-learn is imported when a task is made (`pip install scikit-learn`).
"""

from __future__ import annotations

import contextlib
import copy
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from client_sdk.data.data import Arrays, Data, Items
from client_sdk.errors import BadSettings, DataError
from client_sdk.task.answers import Answer, Reader, answers_of, read_inputs
from client_sdk.task.settings import TrainSettings
from client_sdk.task.sklearn_kinds import Linear, kind_of
from client_sdk.task.task import Result, Task, Weights

_filters = threading.RLock()


class SklearnTask(Task):
    """Trains a linear model, a multi-layer perceptron or GaussianNB.

    `features` and `classes` are taken from the data where they are not given. An estimator with
    `partial_fit` passes `local_epochs` times over a client's examples; another one fits with at
    most so many iterations, from the global coefficients. Other settings, such as the learning
    rate, are the estimator's own. Classifiers are measured by `accuracy`, and by `loss` (the log
    loss) where they know probabilities; regressors by `loss` (the mean squared error) and `mae`.
    `reads` makes rows of a file, for `predict_file`: by default of a NumPy file.

    A client that has one class only pulls the intercept away without end, for nothing penalises it,
    and an estimator without `partial_fit` goes far in ten iterations. Where clients may lack
    classes, take `local_epochs=1`, or SGDClassifier(loss="log_loss") with a constant rate.

    Data: x [N, features] and y [N]. Raises BadSettings for an estimator of another kind.
    """

    def __init__(
        self,
        estimator: Any,
        *,
        features: int | None = None,
        classes: Sequence[Any] | None = None,
        reads: Reader = read_inputs,
        name: str = "",
    ) -> None:
        from sklearn.base import is_classifier

        kind = kind_of(estimator)
        if kind is None:
            raise BadSettings(
                f"A {type(estimator).__name__} has no weights that can be averaged: give a linear "
                "model, a multi-layer perceptron or GaussianNB."
            )
        self.estimator, self._kind, self.reads = estimator, kind, reads
        self.features = features
        self.classes = None if classes is None else np.unique(np.asarray(classes))
        self.is_classifier: bool = is_classifier(estimator)
        self.name = name or type(estimator).__name__
        self._form: Any = None  # an estimator whose attributes have their shapes

    def meet(self, data: Data) -> None:
        """Take the features and classes from the data, unless they are known."""
        x, y = _columns(data)
        if self.features is None:
            self.features = x.shape[1]
        if self.classes is None and self.is_classifier:
            self.classes = np.unique(y)

    def terms(self) -> Mapping[str, str]:
        """The estimator's class, the number of features, and the classes."""
        found = {"estimator": type(self.estimator).__name__, "features": str(self.features)}
        if self.classes is not None:
            found["classes"] = ", ".join(map(str, self.classes.tolist()))
        return found

    def initial(self, seed: int) -> Weights:
        return self._kind.initial(self._untrained(), seed)

    def train(self, weights: Weights, data: Data, training: TrainSettings, seed: int) -> Result:
        x, y = _columns(data)
        estimator = self.model(weights)
        if "random_state" in estimator.get_params():
            estimator.set_params(random_state=seed % 2**32)
        with _no_warnings():  # a few iterations need not converge
            self._kind.train(estimator, x, y, self.classes, training, seed)
        return Result(self._kind.weights(estimator), len(y))

    def evaluate(self, weights: Weights, data: Data) -> dict[str, float]:
        with _filters:  # scikit-learn's checks of arrays change the filters and put them back
            return self._evaluate(weights, data)

    def _evaluate(self, weights: Weights, data: Data) -> dict[str, float]:
        x, y = _columns(data)
        estimator = self.model(weights)
        if not self.is_classifier:
            error = np.asarray(estimator.predict(x), float) - y
            return {"loss": float(np.mean(error**2)), "mae": float(np.mean(np.abs(error)))}
        found = {"accuracy": float(np.mean(estimator.predict(x) == y))}
        if hasattr(estimator, "predict_proba"):
            from sklearn.metrics import log_loss

            found["loss"] = float(log_loss(y, estimator.predict_proba(x), labels=self.classes))
        return found

    def predict_file(self, weights: Weights, path: Path) -> Sequence[Answer]:
        """The class or the number for each row that `reads` gives."""
        x = np.asarray(self.reads(path), float)
        if x.ndim != 2 or x.shape[1] != self.features:
            raise DataError(f"{path} has rows of the shape {x.shape[1:]}, not ({self.features},).")
        estimator = self.model(weights)
        knows = hasattr(estimator, "predict_proba")
        shares = np.asarray(estimator.predict_proba(x)) if knows else None
        found = estimator.predict(x)
        if self.classes is None:
            return answers_of(np.asarray(found, float).reshape(len(x)), None, ())
        return answers_of(np.searchsorted(self.classes, found), shares, self.classes.tolist())

    def model(self, weights: Weights) -> Any:
        """A fitted estimator with these weights."""
        estimator = copy.deepcopy(self._untrained())
        self._kind.put(estimator, weights)
        return estimator

    def _untrained(self) -> Any:
        """An estimator that was fitted to a few random points. Raises BadSettings."""
        if self.features is None or (self.is_classifier and self.classes is None):
            classes = ", classes=[...]" if self.is_classifier else ""
            raise BadSettings(
                f"The form of {self.name} is unknown: give SklearnTask(..., features=N{classes})."
            )
        if self._form is None:
            from sklearn.base import clone

            estimator = clone(self.estimator)
            labels = np.array([0.0, 1.0]) if self.classes is None else self.classes
            y = np.repeat(labels, 2)
            x = np.linspace(0, 1, len(y) * self.features).reshape(len(y), self.features)
            with _no_warnings():
                try:
                    if hasattr(estimator, "partial_fit"):
                        known = {"classes": self.classes} if self.is_classifier else {}
                        estimator.partial_fit(x, y, **known)
                    else:
                        estimator.fit(x, y)
                except ValueError as error:  # such as early_stopping, or folds of its own
                    raise BadSettings(f"A {self.name} cannot be trained so: {error}") from error
            if isinstance(self._kind, Linear) and not hasattr(estimator, "coef_"):
                raise BadSettings(f"A {self.name} has no coefficients that can be averaged.")
            self._form = estimator
        return self._form


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """Python's filters of warnings are one for all threads: two must not change them at once."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _columns(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """X [N, features] and y [N] as NumPy arrays. Raises DataError."""
    if isinstance(data, Items):
        data = Arrays(*(np.asarray(column) for column in zip(*iter(data), strict=True)))
    if not isinstance(data, Arrays):
        raise DataError(f"An estimator cannot train on a {type(data).__name__}: give (x, y).")
    x, y = np.asarray(data.x, float), np.asarray(data.y)
    if y.size != len(y):
        raise DataError(f"An estimator learns one number or class of each example, not {y.shape}.")
    return x.reshape(len(x), -1), y.reshape(len(y))
