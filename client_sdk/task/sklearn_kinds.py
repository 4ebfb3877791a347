"""The kinds of scikit-learn estimators whose weights can be averaged over clients.

Each kind reads an estimator's weights as arrays, puts them back, and trains it.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from client_sdk.data.seeds import SeededRandom
from client_sdk.task.settings import TrainSettings
from client_sdk.task.task import Weights

_RARE = 1e-12  # the probability of a class that nobody has; its logarithm must be finite


class Kind(Protocol):
    """A kind of estimators. The arguments of `train` are x [N, features], y [N] and the classes."""

    def initial(self, estimator: Any, seed: int) -> dict[str, np.ndarray]: ...
    def weights(self, estimator: Any) -> dict[str, np.ndarray]: ...
    def put(self, estimator: Any, weights: Weights) -> None: ...
    def train(
        self, estimator: Any, x: Any, y: Any, classes: Any, training: TrainSettings, seed: int
    ) -> None: ...


def kind_of(estimator: Any) -> Kind | None:
    """The kind of an estimator, by the modules of its classes; None for any other."""
    names = [f"{base.__module__}.{base.__name__}" for base in type(estimator).__mro__]
    for start, kind in _KINDS.items():
        if any(name.startswith(start) for name in names):
            return kind()
    return None


class Linear:
    """Linear models: coef_ and intercept_, zero at first."""

    def initial(self, estimator: Any, seed: int) -> dict[str, np.ndarray]:
        return {name: np.zeros_like(value) for name, value in self.weights(estimator).items()}

    def weights(self, estimator: Any) -> dict[str, np.ndarray]:
        return {
            "coef": np.array(estimator.coef_, float),
            "intercept": np.atleast_1d(np.array(estimator.intercept_, float)),
        }

    def put(self, estimator: Any, weights: Weights) -> None:
        estimator.coef_ = weights["coef"].copy()
        is_number = np.ndim(estimator.intercept_) == 0
        found = weights["intercept"]
        estimator.intercept_ = float(found[0]) if is_number else found.copy()
        if hasattr(estimator, "_average_coef"):  # the mean of an SGD's steps, which begins anew
            estimator._standard_coef = estimator.coef_.copy()
            estimator._standard_intercept = found.copy()
            estimator._average_coef = np.zeros_like(estimator.coef_)
            estimator._average_intercept = np.zeros_like(found)
            estimator.t_ = 1.0

    def train(
        self, estimator: Any, x: Any, y: Any, classes: Any, training: TrainSettings, seed: int
    ) -> None:
        """Pass over the examples, or fit with at most so many iterations from these weights."""
        if hasattr(estimator, "partial_fit"):
            _pass_over(estimator, x, y, training, seed)
            return
        goes_on = {"warm_start": True, "max_iter": training.epochs}
        known = estimator.get_params()
        estimator.set_params(**{name: value for name, value in goes_on.items() if name in known})
        missing = np.setdiff1d(classes, y) if classes is not None else np.array([])
        if not missing.size:
            estimator.fit(x, y)
            return
        # Examples of no weight stand for the classes that this client lacks.
        more = np.concatenate([x, np.zeros((missing.size, x.shape[1]))])
        weight = np.concatenate([np.ones(len(y)), np.zeros(missing.size)])
        if known.get("class_weight") == "balanced":  # of the classes that it has
            present, counts = np.unique(y, return_counts=True)
            balanced = dict.fromkeys(missing.tolist(), 1.0)
            balanced |= zip(present.tolist(), len(y) / (len(present) * counts), strict=True)
            estimator.set_params(class_weight=balanced)
        estimator.fit(more, np.concatenate([y, missing]), sample_weight=weight)


class Network:
    """Multi-layer perceptrons: coefs_ and intercepts_, at first as Glorot and Bengio have them.

    "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.
    """

    def initial(self, estimator: Any, seed: int) -> dict[str, np.ndarray]:
        draws = SeededRandom(seed)
        return {
            name: draws.uniform(values.shape, (6 / sum(values.shape)) ** 0.5).astype(values.dtype)
            if values.ndim == 2
            else np.zeros_like(values)
            for name, values in self.weights(estimator).items()
        }

    def weights(self, estimator: Any) -> dict[str, np.ndarray]:
        return {
            f"{kind}.{layer}": np.array(values)
            for kind in ("coefs", "intercepts")
            for layer, values in enumerate(getattr(estimator, f"{kind}_"))
        }

    def put(self, estimator: Any, weights: Weights) -> None:
        for kind in ("coefs", "intercepts"):
            for layer, values in enumerate(getattr(estimator, f"{kind}_")):
                values[...] = weights[f"{kind}.{layer}"]
        # The optimiser's moments belong to other weights: the next training makes a new one.
        vars(estimator).pop("_optimizer", None)

    def train(
        self, estimator: Any, x: Any, y: Any, classes: Any, training: TrainSettings, seed: int
    ) -> None:
        estimator.set_params(batch_size=min(training.batch_size, len(y)))
        _pass_over(estimator, x, y, training, seed)


class GaussianBayes:
    """GaussianNB. Its weights are means over examples: is it of the class, x if so, x squared.

    The mean of such means, weighted by examples, is that of the pooled data. So one round with all
    clients gives the model of the pooled data, up to rounding.
    """

    def initial(self, estimator: Any, seed: int) -> dict[str, np.ndarray]:
        shape = estimator.theta_.shape
        return {"count": np.zeros(shape[0]), "sum": np.zeros(shape), "square": np.zeros(shape)}

    def weights(self, estimator: Any) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = estimator.sums_
        return found

    def put(self, estimator: Any, weights: Weights) -> None:
        count, total, square = (weights[name] for name in ("count", "sum", "square"))
        share = np.maximum(count, _RARE)[:, None]
        spread = float((square.sum(0) - total.sum(0) ** 2).max())
        smooth = max(estimator.var_smoothing * spread, _RARE)  # as GaussianNB.fit has it
        estimator.sums_ = dict(weights)
        estimator.class_prior_ = share[:, 0] / share.sum()
        estimator.theta_ = total / share
        estimator.var_ = np.maximum(square / share - estimator.theta_**2, 0) + smooth

    def train(
        self, estimator: Any, x: Any, y: Any, classes: Any, training: TrainSettings, seed: int
    ) -> None:
        """Count anew: these weights do not depend on the global ones."""
        of_class = (y[:, None] == classes[None]).astype(float)
        sums = {
            "count": of_class.mean(0),
            "sum": of_class.T @ x / len(y),
            "square": of_class.T @ (x * x) / len(y),
        }
        self.put(estimator, sums)


def _pass_over(estimator: Any, x: Any, y: Any, training: TrainSettings, seed: int) -> None:
    draws = SeededRandom(seed)
    for _ in range(training.epochs):
        order = draws.permutation(len(y))
        estimator.partial_fit(x[order], y[order])


_KINDS: dict[str, type[Kind]] = {  # by the start of a base class's full name
    "sklearn.naive_bayes.GaussianNB": GaussianBayes,
    "sklearn.linear_model": Linear,  # LinearSVC is one by its base
    "sklearn.neural_network._multilayer": Network,
}
