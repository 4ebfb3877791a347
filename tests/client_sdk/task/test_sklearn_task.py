"""Estimators of scikit-learn as tasks, trained in rounds here without a coordinator."""

import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    RANSACRegressor,
    RidgeClassifier,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neural_network import MLPClassifier, MLPRegressor

from client_sdk.data.data import Arrays, as_data
from client_sdk.errors import BadSettings, DataError
from client_sdk.task import weights_file
from client_sdk.task.settings import TrainSettings
from client_sdk.task.sklearn_task import SklearnTask

SETTINGS = TrainSettings(5, 20, 0.1)


def scaled(bunch):
    return (bunch.data - bunch.data.mean(0)) / bunch.data.std(0)


CANCER, SUGAR = load_breast_cancer(), load_diabetes()
CLASSES = as_data((scaled(CANCER), CANCER.target_names[CANCER.target]))  # labels are words
NUMBERS = as_data((scaled(SUGAR), (SUGAR.target - 152) / 77))


def federated(estimator, data, *, rounds=5, sites=3, by_label=False):
    """FedAvg by hand: means of the weights, weighted by examples."""
    task = SklearnTask(estimator)
    task.meet(data)
    task = pickle.loads(pickle.dumps(task))
    order = np.argsort(data.y, kind="stable") if by_label else range(len(data))
    parts = [data.subset(p) for p in np.array_split(np.asarray(order), sites)]
    weights = task.initial(0)
    for number in range(rounds):
        results = [task.train(weights, part, SETTINGS, number) for part in parts]
        total = sum(r.num_examples for r in results)
        weights = {
            name: sum(r.weights[name] * r.num_examples for r in results) / total for name in weights
        }
    return task, weights


@pytest.mark.parametrize(
    ("estimator", "least"),
    [
        (LogisticRegression(), 0.97),
        (SGDClassifier(loss="log_loss"), 0.96),
        (MLPClassifier((8,)), 0.95),
        (GaussianNB(), 0.93),
    ],
    ids=lambda value: type(value).__name__,
)
def test_classifiers_learn(estimator, least):
    task, weights = federated(estimator, CLASSES)
    found = task.evaluate(weights, CLASSES)
    assert found["accuracy"] > least
    assert 0 < found["loss"] < 0.7
    model = task.model(weights)
    assert set(model.predict(CLASSES.x)) == {"benign", "malignant"}


@pytest.mark.parametrize("by_label", [False, True])
def test_naive_bayes_is_that_of_the_pooled_data_after_one_round(by_label):
    task, weights = federated(GaussianNB(), CLASSES, rounds=1, by_label=by_label)
    pooled, model = GaussianNB().fit(CLASSES.x, CLASSES.y), task.model(weights)
    assert np.allclose(model.theta_, pooled.theta_)
    assert np.allclose(model.var_, pooled.var_)
    assert np.allclose(model.predict_proba(CLASSES.x), pooled.predict_proba(CLASSES.x))


def test_a_client_without_a_class_trains_all_the_same():
    task, weights = federated(LogisticRegression(), CLASSES, rounds=1, by_label=True)
    assert weights["coef"].shape == (1, 30)
    assert np.isfinite(task.evaluate(weights, CLASSES)["loss"])


@pytest.mark.parametrize(
    "estimator",
    [LinearRegression(), SGDRegressor(), MLPRegressor(hidden_layer_sizes=(8,))],
    ids=lambda value: type(value).__name__,
)
def test_regressors_learn(estimator):
    task, weights = federated(estimator, NUMBERS)
    found = task.evaluate(weights, NUMBERS)
    assert set(found) == {"loss", "mae"}
    assert found["loss"] < 0.65  # of a variance of 1


def test_the_result_is_a_function_of_the_seed():
    task, weights = federated(MLPClassifier((8,)), CLASSES, rounds=1)
    again = [
        weights_file.write(task.train(weights, CLASSES, SETTINGS, s).weights) for s in (1, 1, 2)
    ]
    assert again[0] == again[1] != again[2]
    assert weights_file.write(task.initial(1)) != weights_file.write(task.initial(2))


@pytest.mark.parametrize("estimator", [RandomForestClassifier(), MultinomialNB()])
def test_an_estimator_without_such_weights_is_refused(estimator):
    with pytest.raises(BadSettings, match="no weights that can be averaged"):
        SklearnTask(estimator)


def test_what_has_no_form_is_refused():
    with pytest.raises(BadSettings, match=r"give SklearnTask\(..., features=N, classes="):
        SklearnTask(LogisticRegression()).initial(0)
    with pytest.raises(BadSettings, match="no coefficients"):
        SklearnTask(RANSACRegressor(), features=3).initial(0)


@pytest.mark.parametrize("average", [False, True, 10])
def test_an_averaged_descent_goes_on_from_the_global_model(average):
    far = as_data((NUMBERS.x, NUMBERS.y + 50))  # no round gets there by itself
    task, weights = federated(SGDRegressor(average=average, random_state=0), far, rounds=15)
    best = np.mean((LinearRegression().fit(far.x, far.y).predict(far.x) - far.y) ** 2)
    assert task.evaluate(weights, far)["loss"] < 1.2 * best


@pytest.mark.parametrize("estimator", [LogisticRegression, RidgeClassifier])
def test_balanced_weights_of_a_party_with_one_class_are_of_that_class(estimator):
    one = CLASSES.subset(np.flatnonzero(CLASSES.y == "benign")[:50].tolist())
    found = {}
    for weight in (None, "balanced"):
        task = SklearnTask(estimator(class_weight=weight))
        task.meet(CLASSES)
        found[weight] = task.train(task.initial(0), one, SETTINGS, 0).weights
    assert np.abs(found[None]["intercept"]).max() > 0.5
    for name, values in found[None].items():
        np.testing.assert_allclose(found["balanced"][name], values, rtol=1e-6, atol=1e-9)


def test_an_estimator_that_cannot_be_trained_in_rounds_is_a_bad_setting():
    task = SklearnTask(MLPClassifier(early_stopping=True), features=2, classes=[0, 1])
    with pytest.raises(BadSettings, match="MLPClassifier cannot be trained so: partial_fit"):
        task.initial(0)


def test_more_than_one_target_of_an_example_is_refused_in_words():
    with pytest.raises(DataError, match=r"one number or class of each example, not \(4, 2\)"):
        SklearnTask(LinearRegression()).meet(as_data((np.ones((4, 3)), np.ones((4, 2)))))


def test_trainings_in_threads_at_once_keep_their_warnings_to_themselves():
    """A few iterations need not converge, and Python's filters are one for all threads."""
    x = np.random.default_rng(0).normal(size=(60, 5)) * 50
    data = as_data((x, (x[:, 0] + x[:, 1] ** 2 > 9).astype(int)))
    task = SklearnTask(LogisticRegression(), features=5, classes=[0, 1])
    settings = TrainSettings(1, 20, 0.1)
    start = threading.Barrier(4)

    def train(seed):
        start.wait()
        for _ in range(30):
            task.train(task.initial(0), data, settings, seed)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(train, range(4)))
    assert warnings.filters[0][0] != "ignore"


@pytest.mark.parametrize(
    ("estimator", "epochs", "least", "most"),
    [
        (LogisticRegression(), 10, 0.5, 0.8),  # the documents warn of this
        (LogisticRegression(), 1, 0.94, 1.0),
        (SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.01), 10, 0.94, 1.0),
    ],
)
def test_sites_with_one_class_each_need_few_iterations(estimator, epochs, least, most):
    """docs/own-model.md says so; nothing penalises the intercept."""
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    task = SklearnTask(estimator, features=30, classes=[0, 1])
    weights = task.initial(0)
    sites = [Arrays(x[y == label], y[y == label]) for label in (0, 1)]
    for number in range(6):
        settings = TrainSettings(epochs, 10, 0.1)
        found = [task.train(weights, site, settings, number).weights for site in sites]
        shares = [len(site) / len(y) for site in sites]
        weights = {n: sum(s * f[n] for s, f in zip(shares, found, strict=True)) for n in weights}
    assert least <= task.evaluate(weights, Arrays(x, y))["accuracy"] <= most
