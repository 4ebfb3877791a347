"""Tasks of clients that were written for Flower (docs/from-flower.md).

`FlowerTask(make_client)` takes what Flower calls a NumPyClient. Flower itself is not needed there:
any object with its methods will do. `FlowerAppTask(app)` takes a ClientApp of Flower's message API,
whose messages are Flower's own, so there it is installed.

Sources of the forms: https://flower.ai/docs/framework/ref-api/flwr.client.NumPyClient.html and
https://flower.ai/docs/framework/ref-api/flwr.clientapp.ClientApp.html
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from client_sdk import hints
from client_sdk.data.data import Data
from client_sdk.errors import BadSettings, TrainingFailed
from client_sdk.task.randomness import all_seeded
from client_sdk.task.settings import TrainSettings
from client_sdk.task.task import Result, Task, Weights

_LIFE = 86_400.0  # seconds that a message to a ClientApp is valid


class FlowerTask(Task):
    """Calls `get_parameters`, `fit` and `evaluate` of a Flower NumPyClient, as Flower does.

    `client` is a function of a party's data, which gives its client, or what `.to_client()` of it
    gives. It is called for each training and each measurement: what is to be trained on comes in
    for the one, what is to be measured on for the other. A client need not keep anything.

    Flower's parameters are a list of arrays. Here they have names: `names`, such as those of a
    network's `state_dict()`, or else "00000" and so on. `initial` is a function without arguments
    that gives the first ones; without it they are those of a client's `get_parameters`.
    `fit` gets what `config` makes of the settings of the training; by default "local_epochs",
    "batch_size", "learning_rate", "momentum", "weight_decay", "proximal_mu", "max_gradient_norm" of
    these and "seed". `evaluate` gets an empty config. `takes` are the corrections of a gradient
    that the client makes of its config, such as "proximal_mu" (`TrainSettings`).

    Random numbers of Python, NumPy and PyTorch (where it has been imported) are a function of the
    seed while a client is made and works, and as before afterwards.

    Data: what `client` takes. Raises BadSettings for an object without these methods.
    """

    def __init__(
        self,
        client: Callable[[Any], Any],
        *,
        initial: Callable[[], Sequence[np.ndarray]] | None = None,
        names: Sequence[str] = (),
        config: Callable[[TrainSettings], Mapping[str, Any]] | None = None,
        name: str = "flower",
        terms: Mapping[str, str] | None = None,
        takes: Collection[str] = (),
    ) -> None:
        self.name = name
        self.takes = frozenset(takes)
        self.names = tuple(names)
        self._client, self._initial, self._config = client, initial, config
        self._terms = dict(terms or {})
        self._data: Any = None  # for a client that tells the form of the weights

    def __getstate__(self) -> dict[str, Any]:
        """Workers have the data already."""
        return {**self.__dict__, "_data": None}

    def terms(self) -> Mapping[str, str]:
        return self._terms

    def meet(self, data: Data) -> None:
        """Keep the data, for the client that is asked for the first parameters."""
        self._data = data

    def initial(self, seed: int) -> Weights:
        """The parameters of `initial`, or of a client's `get_parameters`. Raises BadSettings."""
        with all_seeded(seed):
            if self._initial is not None:
                return self._named(self._initial())
            if self._data is not None:
                given = getattr(self._made(self._data), "get_parameters", None)
                if given is not None and (found := given({})):
                    return self._named(found)
        raise BadSettings(
            f"The first parameters of {self.name} are unknown, because its client has no "
            "get_parameters that gives any: give FlowerTask(..., initial=...) a function that "
            "makes them."
        )

    def train(self, weights: Weights, data: Data, training: TrainSettings, seed: int) -> Result:
        """What `fit` gives. Raises TrainingFailed where that has another form than Flower's."""
        told = _settings(training) if self._config is None else self._config(training)
        with all_seeded(seed):
            found = self._made(data).fit(self.model(weights), {"seed": seed, **told})
        parameters, examples, metrics = _three(found, "fit", "parameters, examples, metrics")
        return Result(self._named(parameters), examples, metrics or {})

    def evaluate(self, weights: Weights, data: Data) -> Mapping[str, float]:
        """The loss and the metrics that `evaluate` gives. Raises TrainingFailed as `train`."""
        with all_seeded(0):
            found = self._made(data).evaluate(self.model(weights), {})
        loss, _, metrics = _three(found, "evaluate", "loss, examples, metrics")
        return {**(metrics or {}), "loss": loss}

    def model(self, weights: Weights) -> list[np.ndarray]:
        """The parameters in Flower's order, as arrays of their own, which a client may change."""
        return [np.array(weights[name]) for name in self.names or sorted(weights)]

    def _made(self, data: Any) -> Any:
        made = self._client(data)
        found = getattr(made, "numpy_client", made)  # below what `.to_client()` gives
        for method in ("fit", "evaluate"):
            if not callable(getattr(found, method, None)):
                raise BadSettings(
                    f"The client of {self.name} is a {type(found).__name__} without the method "
                    f"{method}: give a function of the data that makes a NumPyClient."
                )
        return found

    def _named(self, parameters: Sequence[Any]) -> dict[str, np.ndarray]:
        if self.names and len(self.names) != len(parameters):
            raise BadSettings(
                f"{self.name} has {len(parameters)} parameters, but {len(self.names)} names."
            )
        names = self.names or [f"{place:05d}" for place in range(len(parameters))]
        return {name: np.asarray(one) for name, one in zip(names, parameters, strict=True)}


class FlowerAppTask(Task):
    """Sends messages "train" and "evaluate" to a Flower ClientApp, as Flower's FedAvg does.

    `initial` gives the first arrays by name, such as a network's `state_dict()`. `node_config` is a
    function of a party's data and gives the context's, such as {"partition-id": 0}: such an app
    loads its data itself. `run_config` is the context's, of Flower's `pyproject.toml`; where it has
    "local-epochs", "batch-size", "learning-rate", "momentum" or "weight-decay", training gets those
    of the experiment. A message's record "config" has "lr" and what `FlowerTask` gives to `fit`.
    A reply's arrays are the new weights, and its metric "num-examples" is their number. `terms`,
    `takes` and random numbers are as of `FlowerTask`.

    Data: what `node_config` takes, with a length. Raises BadSettings where Flower is not installed.
    """

    def __init__(
        self,
        app: Callable[[Any, Any], Any],
        *,
        initial: Callable[[], Mapping[str, Any]],
        node_config: Callable[[Any], Mapping[str, Any]] = lambda data: {},
        run_config: Mapping[str, Any] | None = None,
        name: str = "flower-app",
        terms: Mapping[str, str] | None = None,
        takes: Collection[str] = (),
    ) -> None:
        self.name = name
        self.takes = frozenset(takes)
        self._app, self._initial, self._node_config = app, initial, node_config
        self._run_config = dict(run_config or {})
        self._terms = dict(terms or {})

    def terms(self) -> Mapping[str, str]:
        return self._terms

    def initial(self, seed: int) -> Weights:
        with all_seeded(seed):
            return {name: np.asarray(one) for name, one in self._initial().items()}

    def train(self, weights: Weights, data: Data, training: TrainSettings, seed: int) -> Result:
        """The arrays and metrics of the reply. Raises TrainingFailed where it has none."""
        told = _settings(training)
        own = {name.replace("_", "-"): value for name, value in told.items()}
        run_config = {name: own.get(name, value) for name, value in self._run_config.items()}
        config = {"lr": training.learning_rate, "seed": seed, **told}
        reply = self._asked("train", weights, data, config, run_config, seed)
        arrays = next(iter(reply.array_records.values()), None)
        if arrays is None:
            raise TrainingFailed(f"The reply of {self.name} to a message `train` has no arrays.")
        metrics = _metrics(reply)
        examples = int(metrics.pop("num-examples", len(data)))
        return Result({name: one.numpy() for name, one in arrays.items()}, examples, metrics)

    def evaluate(self, weights: Weights, data: Data) -> Mapping[str, float]:
        """The metrics of the reply."""
        found = _metrics(self._asked("evaluate", weights, data, {}, self._run_config, 0))
        found.pop("num-examples", None)
        return found

    def _asked(
        self,
        kind: str,
        weights: Weights,
        data: Data,
        config: Mapping[str, Any],
        run_config: Mapping[str, Any],
        seed: int,
    ) -> Any:
        """The content of the reply. Raises BadSettings, TrainingFailed."""
        try:
            from flwr import app as flower
        except ImportError as error:
            raise BadSettings(
                f"{self.name} needs Flower's messages: {hints.install('flwr')}."
            ) from error
        arrays = {name: flower.Array(np.array(one)) for name, one in weights.items()}
        content = flower.RecordDict(
            {
                "arrays": flower.ArrayRecord(array_dict=arrays),
                "config": flower.ConfigRecord(dict(config)),
            }
        )
        about = flower.Metadata(  # else Flower asks its own runtime, which is not there
            **{"run_id": 0, "src_node_id": 0, "dst_node_id": 0, "message_type": kind},
            **{"message_id": "", "reply_to_message_id": "", "group_id": ""},
            **{"created_at": time.time(), "ttl": _LIFE},
        )
        message = flower.Message(content=content, metadata=about)
        with all_seeded(seed):
            node_config = dict(self._node_config(data))
            context = flower.Context(
                run_id=0,
                node_id=0,
                node_config=node_config,
                state=flower.RecordDict(),
                run_config=dict(run_config),
            )
            reply = self._app(message, context)
        if reply.has_error():
            raise TrainingFailed(f"{self.name} answers with an error: {reply.error.reason}")
        return reply.content


def _metrics(content: Any) -> dict[str, Any]:
    """All metrics of a reply."""
    return {name: one for record in content.metric_records.values() for name, one in record.items()}


def _settings(training: TrainSettings) -> dict[str, Any]:
    """The settings of a training by their names in an experiment, as Flower's scalars."""
    found = {
        **{"local_epochs": training.epochs, "batch_size": training.batch_size},
        **{"learning_rate": training.learning_rate, "momentum": training.momentum},
        **{"weight_decay": training.weight_decay, "proximal_mu": training.proximal_mu},
    }
    if training.max_gradient_norm is not None:
        found["max_gradient_norm"] = training.max_gradient_norm
    return found


def _three(found: Any, method: str, of: str) -> tuple[Any, Any, Any]:
    """The three things that a client's method gives. Raises TrainingFailed."""
    if not isinstance(found, tuple) or len(found) != 3:
        raise TrainingFailed(
            f"A client's {method} must give three things ({of}), not a {type(found).__name__}."
        )
    return found
