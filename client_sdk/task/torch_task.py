"""A task of any PyTorch network: `TorchTask(MyNet)`, or `TorchTask(MyNet, loss=nn.MSELoss())`."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import default_collate

from client_sdk.data.data import Arrays, Data, Items
from client_sdk.data.seeds import SeededRandom
from client_sdk.errors import BadSettings, DataError
from client_sdk.task.answers import Answer, Reader, answers_of, read_inputs
from client_sdk.task.optimisers import without_compiler
from client_sdk.task.randomness import torch_seeded
from client_sdk.task.settings import TrainSettings
from client_sdk.task.soundness import (
    NoAccidentalPairs,
    gradient_of,
    labels_for,
    one_number,
    tensor_of,
)
from client_sdk.task.steps import Steps
from client_sdk.task.task import (
    ALL_CORRECTIONS,
    NotTogether,
    Party,
    Result,
    Task,
    Weights,
)
from client_sdk.task.tensors import put_weights, weights_of
from client_sdk.task.together import (
    OPTIMISERS,
    Client,
    one_by_one,
    require_together,
    train_together,
)
from client_sdk.task.train import pick_device

Measure = Callable[[torch.Tensor, torch.Tensor], Any]
"""Of the network's outputs [N, ...] and the targets [N, ...]: a loss, or a metric."""

Optimiser = Callable[..., Any]

EVALUATION_BATCH = 256  # examples


def accuracy(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """The share of examples whose largest output is that of the target's class."""
    return (outputs.argmax(1) == targets).float().mean().item()


class TorchTask(Task):
    """Trains a network by mini-batches that are shuffled as a function of the seed.

    `network` is a class or function that makes the module, or a module, whose weights are then the
    initial ones. `loss` takes outputs and targets and gives their mean loss: cross entropy by
    default. A network with several outputs, a tuple or dict of tensors, needs a loss that takes it.
    `metrics` take the outputs and targets of all examples and give a number; of cross entropy the
    default is the accuracy, of other losses none. `optimiser` is a class of torch.optim, which gets
    the learning rate, momentum and weight decay that it takes, or a function of (parameters,
    TrainSettings): SGD by default. `classes` are the names of the classes in the order of the
    labels. `reads` makes inputs of a file, for `predict_file`: by default of a NumPy file; several
    inputs are a tuple.

    Data: (x, y) arrays or tensors, or a torch Dataset of (x, y); with more than two parts, the last
    is the target and the network is called with the others. Floating-point inputs become the type
    of the network's largest tensor. All tensors of the network's state travel: parameters, also
    frozen ones, and buffers; tied weights once. The result is a function of the seed on a CPU, for
    the same version of PyTorch and number of threads.

    Source of the loop: McMahan et al., arXiv:1602.05629, algorithm 1, ClientUpdate.
    """

    takes = ALL_CORRECTIONS

    def __init__(
        self,
        network: Callable[[], nn.Module] | nn.Module,
        *,
        loss: Measure | None = None,
        metrics: Mapping[str, Measure] | None = None,
        optimiser: Optimiser = torch.optim.SGD,
        classes: Sequence[str] = (),
        reads: Reader = read_inputs,
        name: str = "",
    ) -> None:
        self.name = name or _name(network)
        self.loss = loss or F.cross_entropy
        self._by_class = self.loss is F.cross_entropy or isinstance(self.loss, nn.CrossEntropyLoss)
        self._is_binary = self.loss is F.binary_cross_entropy_with_logits or isinstance(
            self.loss, nn.BCEWithLogitsLoss
        )
        self.metrics = dict(
            ({"accuracy": accuracy} if self._by_class else {}) if metrics is None else metrics
        )
        self.optimiser = optimiser
        self.classes = tuple(classes)
        self.reads = reads
        self._network = network
        self._made: nn.Module | None = network if isinstance(network, nn.Module) else None

    def __getstate__(self) -> dict[str, Any]:
        """A worker makes the module again, unless it was given as one."""
        made = self._made if isinstance(self._network, nn.Module) else None
        return {**self.__dict__, "_made": made}

    def terms(self) -> Mapping[str, str]:
        """The loss, and the classes where they are given."""
        found = {"loss": _name(self.loss)}
        if self.classes:
            found["classes"] = ", ".join(self.classes)
        return found

    def prepare(self) -> str:
        """Make the network once. Raises BadSettings where that fails."""
        self._copy()
        return f"PyTorch on {pick_device().type}"

    def initial(self, seed: int) -> Weights:
        """PyTorch's own initial weights by this seed, or those of the module that was given."""
        if isinstance(self._network, nn.Module):
            return weights_of(self._network)
        with torch_seeded(seed):
            return weights_of(_make(self._network))

    def train(self, weights: Weights, data: Data, training: TrainSettings, seed: int) -> Result:
        """Train by mini-batches; the metric `train_loss` is the last epoch's mean loss."""
        model = self.model(weights).train().to(pick_device())
        trained = [p for p in model.parameters() if p.requires_grad]
        optimiser = _optimiser(self.optimiser, trained, training)
        if training.example_noise is not None:
            return self._train_privately(model, optimiser, data, training, seed)
        steps = Steps(model, optimiser, training)
        needs_two = any(isinstance(module, _BatchNorm) for module in model.modules())
        if needs_two and len(data) < 2:
            raise DataError("Batch normalisation cannot train on a single example.")
        draws = SeededRandom(seed)
        total = torch.zeros(())
        with torch_seeded(seed):  # of dropout
            for _ in range(training.epochs):
                total = torch.zeros(())
                order = draws.permutation(len(data))
                for batch in _cut(order.tolist(), training.batch_size, at_least=1 + needs_two):
                    optimiser.zero_grad(set_to_none=True)
                    outputs, targets = self._call(model, _batch(data, batch))
                    loss = gradient_of(self._measured(outputs, targets), self._loss_name)
                    loss.backward()
                    steps.take()
                    total = total + loss.detach() * len(batch)
        metrics = {"train_loss": float(total) / len(data)}
        return Result(weights_of(model), len(data), metrics, steps.effective)

    def _train_privately(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        data: Data,
        training: TrainSettings,
        seed: int,
    ) -> Result:
        """DP-SGD. The seed is that of dropout; the rest is of the operating system's numbers."""
        from client_sdk.task.private import train_privately  # few trainings need it

        def forward(network: nn.Module, places: list[int]) -> tuple[Any, Any]:
            return self._call(network, _batch(data, places))

        def losses(outputs: Any, targets: Any) -> torch.Tensor:
            places = range(len(outputs))
            each = [self._measured(outputs[n : n + 1], targets[n : n + 1]) for n in places]
            return gradient_of(sum(each), self._loss_name)

        with torch_seeded(seed):
            return train_privately(model, optimiser, training, len(data), forward, losses)

    def require_together(self, data: Data) -> None:
        """Raise NotTogether for networks, losses, optimisers and data that cannot be batched."""
        if self.optimiser not in OPTIMISERS:
            names = ", ".join(one.__name__ for one in OPTIMISERS)
            raise NotTogether(f"the optimiser {_name(self.optimiser)} is none of {names}")
        if not isinstance(data, Arrays):
            raise NotTogether(f"the examples of {type(data).__name__} are read one at a time")
        model = self._copy().train().to(pick_device())
        batch = _batch(data, range(min(len(data), 3)))
        with torch_seeded(0):
            outputs, targets = self._call(model, batch)
            if not isinstance(outputs, torch.Tensor) or not isinstance(targets, torch.Tensor):
                raise NotTogether("outputs and targets are no tensors")
            columns = [*_placed(model, batch)[:-1], targets]
            require_together(model, one_by_one(self.loss), self.loss, columns)

    def train_together(self, parties: Sequence[Party], at_once: int) -> list[Result]:
        """Train each party as `train` does, with a client dimension."""
        self.require_together(parties[0].data)
        model = self._copy().train().to(pick_device())
        first = parties[0].training
        Steps(model, _optimiser(self.optimiser, [*model.parameters()], first), first)  # it checks
        clients = [
            Client(party.weights, self._columns(model, party.data), party.training, party.seed)
            for party in parties
        ]

        def optimiser(
            values: Sequence[torch.Tensor], training: TrainSettings
        ) -> torch.optim.Optimizer:
            return _optimiser(self.optimiser, values, training)

        return train_together(model, one_by_one(self.loss), optimiser, clients, at_once)

    @torch.no_grad()
    def _columns(self, model: nn.Module, data: Arrays) -> tuple[torch.Tensor, ...]:
        """All examples in the form that the network and the loss take. Raises DataError."""
        *inputs, targets = _placed(model, tuple(map(tensor_of, data.columns)))
        outputs = self._called(model, [column[:1] for column in inputs])
        return (*inputs, self._formed(outputs.expand(len(targets), *outputs.shape[1:]), targets))

    @torch.no_grad()
    def evaluate(self, weights: Weights, data: Data) -> dict[str, float]:
        """The mean loss, and the metrics of all examples."""
        model = self.model(weights).to(pick_device())
        found = list(self._outputs(model, data))
        sizes = [len(targets) for _, targets in found]
        with NoAccidentalPairs(self._loss_name):
            losses = [float(self._measured(*pair)) for pair in found]
        measured = {"loss": sum(a * b for a, b in zip(losses, sizes, strict=True)) / sum(sizes)}
        if self.metrics:
            outputs, targets = (_joined(parts) for parts in zip(*found, strict=True))
            for name, of in self.metrics.items():
                what = f"The metric {name!r} of {self.name}"
                with NoAccidentalPairs(what):
                    measured[name] = float(one_number(of(outputs, targets), what))
        return measured

    @property
    def _loss_name(self) -> str:
        return f"The loss of {self.name}"

    def _measured(self, outputs: torch.Tensor, targets: torch.Tensor) -> Any:
        """The loss, which is one number. Raises BadSettings."""
        return one_number(self.loss(outputs, targets), self._loss_name)

    @torch.no_grad()
    def predict(self, weights: Weights, data: Data) -> Any:
        """The network's outputs of all examples: [N, ...], or as many as it has in their form."""
        model = self.model(weights).to(pick_device())
        return _joined([outputs for outputs, _ in self._outputs(model, data)])

    def predict_file(self, weights: Weights, path: Path) -> Sequence[Answer]:
        """The most probable class of each input that `reads` gives, or the network's number.

        One output that was trained by binary cross entropy with logits is the class 1, or not.
        """
        read = self.reads(path)
        inputs = read if isinstance(read, tuple) else (read,)
        examples = Arrays(*inputs, np.zeros(len(inputs[0]), np.float32))
        outputs = self.predict(weights, examples)
        if not isinstance(outputs, torch.Tensor):
            raise DataError(f"{self.name} has several outputs: its method predict gives them all.")
        if self._by_class:
            shares = outputs.softmax(1).numpy()
            places = shares.argmax(1)
            return answers_of(places, shares, self.classes or range(shares.shape[1]))
        if self._is_binary and outputs.numel() == len(outputs):
            yes = outputs.flatten().double().sigmoid().numpy()
            shares = np.stack([1 - yes, yes], 1)
            return answers_of(shares.argmax(1), shares, self.classes or range(2))
        if outputs.numel() != len(outputs):
            raise DataError(f"{self.name} has more than one output an input, and none is a class.")
        return answers_of(outputs.flatten().numpy(), None, ())

    def model(self, weights: Weights) -> nn.Module:
        """The network with these weights, ready to be used."""
        model = self._copy()
        put_weights(model, weights)
        return model.eval()

    def _outputs(self, model: nn.Module, data: Data) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for batch in _cut(range(len(data)), EVALUATION_BATCH):
            yield self._call(model, _batch(data, batch))

    def _call(
        self, model: nn.Module, batch: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The outputs and targets of a batch. Raises DataError where the loss is always 0."""
        *inputs, targets = _placed(model, batch)
        outputs = self._called(model, inputs)
        return outputs, self._formed(outputs, targets)

    def _called(self, model: nn.Module, inputs: Sequence[Any]) -> Any:
        """The network's outputs. Raises DataError where it takes no whole numbers."""
        try:
            return model(*inputs)
        except (RuntimeError, ValueError):
            whole = [x.dtype for x in inputs if _is_whole(x)]
            try:
                model(*(x.float() if _is_whole(x) else x for x in inputs))
            except Exception:  # the types are not what is wrong
                whole = []
            if not whole:
                raise
            raise DataError(
                f"{self.name} computes with floating-point numbers, and an input holds {whole[0]}: "
                "convert it, as in x.astype('float32')."
            ) from None

    def _formed(self, outputs: Any, targets: Any) -> Any:
        """The targets in the form that the loss takes beside these outputs. Raises DataError."""
        if self._by_class and isinstance(outputs, torch.Tensor) and outputs.shape[1:2] == (1,):
            raise DataError(
                f"{self.name} has one output for an example, whose cross entropy is always 0: give "
                "it an output for each class, or another loss, such as nn.BCEWithLogitsLoss()."
            )
        if (self._by_class or self._is_binary) and not isinstance(outputs, torch.Tensor):
            raise DataError(
                f"{self.name} gives a {type(outputs).__name__}, and its loss takes a tensor: give "
                "a loss that takes this, such as loss=lambda outputs, targets: ...outputs[0]..."
            )
        if not isinstance(targets, torch.Tensor) or not isinstance(outputs, torch.Tensor):
            return targets
        if self._by_class:
            ignored = getattr(self.loss, "ignore_index", -100)
            return labels_for(outputs, targets, ignored, self.name)
        if targets.shape != outputs.shape and targets.numel() == outputs.numel():
            # [N] beside [N, 1]: a loss would compare each output with each target.
            targets = targets.view_as(outputs)
        if targets.is_floating_point() or targets.shape == outputs.shape:
            targets = targets.to(outputs.dtype)
        elif not targets.is_floating_point():
            targets = targets.long()  # of classes
        return targets

    def _copy(self) -> nn.Module:
        """A module of the network; making a new one each time would draw random numbers."""
        if self._made is None:
            with torch_seeded(0):
                self._made = _make(self._network)
        return copy.deepcopy(self._made)


def _make(network: Any) -> nn.Module:
    """Call a user's class or function. Raises BadSettings."""
    try:
        made = network()
    except Exception as error:
        raise BadSettings(
            f"{_name(network)}() raised {type(error).__name__}: {error}. Give a class or function "
            "without arguments, or the module itself."
        ) from error
    if not isinstance(made, nn.Module):
        raise BadSettings(f"{_name(network)}() gives a {type(made).__name__}, not a module.")
    return made


def _name(found: Any) -> str:
    """A class's or function's own name; of an object, that of its class."""
    return str(getattr(found, "__name__", None) or type(found).__name__)


def _optimiser(
    make: Optimiser, parameters: Sequence[torch.Tensor], training: TrainSettings
) -> torch.optim.Optimizer:
    made: torch.optim.Optimizer
    if not isinstance(make, type):
        made = make(parameters, training)
        return made
    wanted = {
        "lr": training.learning_rate,
        "momentum": training.momentum,
        "weight_decay": training.weight_decay,
    }
    taken = inspect.signature(make).parameters
    made = without_compiler(make)(
        parameters, **{name: value for name, value in wanted.items() if name in taken}
    )
    return made


def _cut(order: Sequence[int], size: int, at_least: int = 1) -> Iterator[Sequence[int]]:
    """Batches of `size`. A last one below `at_least` joins the one before it."""
    size = max(size, at_least)
    starts = list(range(0, len(order), size))
    if len(starts) > 1 and len(order) - starts[-1] < at_least:
        starts.pop()
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        yield order[start:end]


def _batch(data: Data, indices: Sequence[int]) -> tuple[torch.Tensor, ...]:
    """The examples at these positions, as tensors: the inputs, then the target."""
    if isinstance(data, Arrays):
        parts: Any = [tensor_of(column) for column in data.subset(indices).columns]
    elif isinstance(data, Items):
        parts = (data.collate or default_collate)([data[i] for i in indices])
    else:
        raise DataError(f"A network cannot train on a {type(data).__name__}: give (x, y).")
    if not isinstance(parts, tuple | list) or len(parts) < 2:
        raise DataError("An example of the data set must be (x, y): the input, then the target.")
    return tuple(parts)


def _joined(batches: Sequence[Any]) -> Any:
    """The outputs of all batches in one, on the CPU: tensors, or tuples, lists or dicts of them.

    Raises DataError for other forms.
    """
    first = batches[0]
    if isinstance(first, torch.Tensor):
        return torch.cat([batch.cpu() for batch in batches])
    if isinstance(first, Mapping):
        return {name: _joined([batch[name] for batch in batches]) for name in first}
    if isinstance(first, tuple | list):
        return tuple(_joined(parts) for parts in zip(*batches, strict=True))
    raise DataError(f"A network's output may not be a {type(first).__name__}.")


def _is_whole(part: Any) -> bool:
    return isinstance(part, torch.Tensor) and not (part.is_floating_point() or part.is_complex())


def _placed(model: nn.Module, batch: tuple[Any, ...]) -> list[Any]:
    """Inputs and target beside the network's weights, and floating-point inputs of their type."""
    floats = [p for p in model.parameters() if p.is_floating_point()]
    weights = max(floats, key=torch.numel, default=torch.zeros(0))
    *inputs, targets = (
        part.to(weights.device) if isinstance(part, torch.Tensor) else part for part in batch
    )
    return [
        *(
            part.to(weights.dtype)
            if isinstance(part, torch.Tensor) and part.is_floating_point()
            else part
            for part in inputs
        ),
        targets,
    ]
