"""A cohort's clients trained as one model whose tensors have a client dimension, [G, ...].

torch.func makes the step of one client a step of all (`functional_call`, `grad_and_value`, `vmap`):
a convolution becomes a grouped one, a product of matrices a batched one. Each client keeps its own
order of examples, which is that of the readable loop (`client_sdk.task.train`). A batch with fewer
examples than others is filled up with examples that count nothing, and a client that has finished
its steps keeps its weights.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from client_sdk.data.seeds import SeededRandom
from client_sdk.task.settings import TrainSettings
from client_sdk.task.task import NotTogether, Result, Weights
from client_sdk.task.tensors import array_of, tensor_of
from serverless_fl.aggregation.fednova import effective_steps

# These optimisers step each weight by itself, so a client dimension changes no step.
OPTIMISERS = (
    *(torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop),
    *(torch.optim.Adagrad, torch.optim.Adadelta, torch.optim.Adamax, torch.optim.NAdam),
)

EachLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Of the outputs [N, ...] and targets [N, ...] of a batch: the loss of each example, [N]."""


@dataclass(frozen=True)
class Client:
    """A client's first weights, its columns on the device (the last has the targets), settings."""

    weights: Weights
    columns: tuple[torch.Tensor, ...]
    training: TrainSettings
    seed: int

    @property
    def width(self) -> int:
        """The rows of this client's batches: a function of the client alone.

        A product of matrices of another shape may round otherwise, so the width must not depend on
        the clients that happen to train beside it.
        """
        fewest = 1 << (len(self) - 1).bit_length()
        return min(self.training.batch_size, fewest)

    def __len__(self) -> int:
        return len(self.columns[0])


def train_together(
    model: nn.Module,
    each_loss: EachLoss,
    optimiser: Callable[[Sequence[torch.Tensor], TrainSettings], torch.optim.Optimizer],
    clients: Sequence[Client],
    at_once: int,
) -> list[Result]:
    """Train each client from its weights, `at_once` as one model; results in the clients' order.

    The model is in the mode for training, on the columns' device. `optimiser` makes one of
    OPTIMISERS. Groups with fewer clients are filled up with copies of the last, so a client's
    result does not depend on the number of others. A group that finds no memory is cut in two.

    Raises NotTogether where the model or its settings do not allow it.
    """
    results: dict[int, Result] = {}
    alike: dict[tuple[Any, ...], list[int]] = {}
    for place, client in enumerate(clients):
        training = client.training
        key = (client.width, training.epochs, training, training.offset is None)
        alike.setdefault(key, []).append(place)
    for places in alike.values():
        for start in range(0, len(places), at_once):
            some = places[start : start + at_once]
            filled = [*some, *some[-1:] * (at_once - len(some))]
            found = _halved(model, each_loss, optimiser, [clients[place] for place in filled])
            results |= dict(zip(some, found, strict=False))
    return [results[place] for place in range(len(clients))]


def _halved(
    model: nn.Module, each_loss: EachLoss, optimiser: Callable[..., Any], clients: list[Client]
) -> list[Result]:
    """Train the clients as one model, or as several where memory is short."""
    try:
        return _Group(model, each_loss, optimiser, clients).train()
    except (torch.OutOfMemoryError, MemoryError):
        if len(clients) == 1:
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = (len(clients) + 1) // 2
    halves = clients[:middle], clients[middle:]
    return [result for half in halves for result in _halved(model, each_loss, optimiser, half)]


class _Group:
    """Clients with batches of the same width and the same settings, in training."""

    def __init__(
        self,
        model: nn.Module,
        each_loss: EachLoss,
        optimiser: Callable[..., Any],
        clients: list[Client],
    ) -> None:
        self.clients, self.training = clients, clients[0].training
        self.device = clients[0].columns[0].device
        trained = [name for name, p in model.named_parameters() if p.requires_grad]
        first = clients[0].weights
        if any(name not in trained and not _same(name, clients) for name in first):
            raise NotTogether("a tensor that is not trained differs between clients")
        constants = {
            name: tensor_of(first[name]).to(self.device) for name in first if name not in trained
        }
        self.values = {name: self._stacked([c.weights for c in clients], name) for name in trained}
        self.starts = {name: value.clone() for name, value in self.values.items()}
        self.offsets = self._offsets()
        self.optimiser = optimiser(list(self.values.values()), self.training)
        self.columns, self.rows, self.shares, self.counted = self._batches()
        self.active = torch.from_numpy(self.steps > np.arange(self.steps.max())[:, None])
        self.active = self.active.to(self.device)  # [steps, G]
        self.total = torch.zeros(len(clients), device=self.device)

        def loss(
            values: dict[str, torch.Tensor], batch: list[torch.Tensor], share: torch.Tensor
        ) -> torch.Tensor:
            outputs = functional_call(model, (values, constants), tuple(batch[:-1]))
            return (each_loss(outputs, batch[-1]) * share).sum()

        self.step = vmap(grad_and_value(loss))

    def train(self) -> list[Result]:
        """Take all steps of all clients."""
        for step in range(int(self.steps.max())):
            batch = [column[self.rows[:, step]] for column in self.columns]
            gradients, losses = self.step(self.values, batch, self.shares[:, step])
            self.total += losses.detach() * self.counted[:, step]
            self._take(gradients, step)
        totals = self.total.tolist()
        return [self._result(place, totals[place]) for place in range(len(self.clients))]

    def _batches(self) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor]:
        """All clients' columns in one, the rows of each batch in them, and what they count.

        Rows are int64 [G, steps, width]. In the loss of a batch its rows count one over their
        number, and others 0. In the loss of a client, a batch of its last epoch counts its rows.
        """
        clients, width = self.clients, self.clients[0].width
        epochs = self.training.epochs
        each = np.array([-(-len(client) // width) for client in clients])  # steps of an epoch
        self.steps = each * epochs
        most = int(self.steps.max())
        rows = np.zeros((len(clients), most, width), np.int64)
        sizes = np.zeros((len(clients), most), np.int64)
        counted = np.zeros((len(clients), most), np.float32)
        start = 0
        for place, client in enumerate(clients):
            draws, steps, count = SeededRandom(client.seed), each[place], len(client)
            rows[place] = start  # an example of the client's own
            for epoch in range(epochs):
                filled = np.zeros(steps * width, np.int64)
                filled[:count] = draws.permutation(count)
                part = slice(epoch * steps, (epoch + 1) * steps)
                rows[place, part] = start + filled.reshape(steps, width)
                sizes[place, part] = width
                sizes[place, part.stop - 1] = count - (steps - 1) * width
            last = slice((epochs - 1) * steps, epochs * steps)
            counted[place, last] = sizes[place, last]
            start += count
        columns = [
            torch.cat([client.columns[n] for client in clients])
            for n in range(len(clients[0].columns))
        ]
        held = torch.from_numpy(sizes).to(self.device)[..., None]
        inside = torch.arange(width, device=self.device) < held
        shares = inside / held.clamp(min=1)
        tables = torch.from_numpy(rows).to(self.device), torch.from_numpy(counted).to(self.device)
        return columns, tables[0], shares, tables[1]

    def _take(self, gradients: Mapping[str, torch.Tensor], step: int) -> None:
        """One step of every client that has one left, corrected as `client_sdk.task.steps` says."""
        limit, mu = self.training.max_gradient_norm, self.training.proximal_mu
        if limit is not None:
            squares = [gradient.flatten(1).square().sum(1) for gradient in gradients.values()]
            norms = torch.stack(squares).sum(0).sqrt()
            scale = (limit / (norms + 1e-6)).clamp(max=1.0)
        all_go_on = bool((self.steps > step).all())
        before = [] if all_go_on else [value.clone() for value in self.values.values()]
        for name, value in self.values.items():
            gradient = gradients[name].detach()
            if limit is not None:
                gradient = gradient * _beside(scale, gradient)
            if mu:
                gradient = gradient + (value - self.starts[name]) * mu
            if name in self.offsets:
                gradient = gradient + self.offsets[name]
            value.grad = gradient
        self.optimiser.step()
        for value, old in zip(self.values.values(), before, strict=False):
            value.copy_(torch.where(_beside(self.active[step], value), value, old))

    def _stacked(self, weights: Sequence[Weights], name: str) -> torch.Tensor:
        return torch.stack([tensor_of(one[name]) for one in weights]).to(self.device)

    def _offsets(self) -> dict[str, torch.Tensor]:
        """What the strategy adds to each client's gradients, [G, ...] by name."""
        offsets = [client.training.offset or {} for client in self.clients]
        names = [name for name in self.values if all(name in offset for offset in offsets)]
        return {name: self._stacked(offsets, name).to(self.values[name]) for name in names}

    def _result(self, place: int, total: float) -> Result:
        client = self.clients[place]
        new = {name: array_of(name, value[place]) for name, value in self.values.items()}
        weights = {name: new.get(name, value) for name, value in client.weights.items()}
        sgd = isinstance(self.optimiser, torch.optim.SGD)
        reached = effective_steps(int(self.steps[place]), self.training.momentum if sgd else 0.0)
        return Result(weights, len(client), {"train_loss": total / len(client)}, reached)


def _same(name: str, clients: Sequence[Client]) -> bool:
    first = clients[0].weights[name]
    return all(
        client.weights[name] is first or np.array_equal(client.weights[name], first)
        for client in clients
    )


def _beside(numbers: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Numbers of clients [G], in a shape that goes with a tensor [G, ...]."""
    return numbers.view(-1, *[1] * (tensor.dim() - 1))


def one_by_one(loss: Callable[[torch.Tensor, torch.Tensor], Any]) -> EachLoss:
    """The loss of each example, of a function that gives the mean loss of a batch."""

    def of_one(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = loss(output[None], target[None])
        return found

    return vmap(of_one)


def require_together(
    model: nn.Module,
    each_loss: EachLoss,
    mean_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    columns: Sequence[torch.Tensor],
) -> None:
    """Raise NotTogether unless this model and loss can be trained with a client dimension.

    It tries a few examples: their outputs must not depend on each other or on chance, no buffer may
    change, and the loss must be the mean of the examples' losses.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            raise NotTogether(
                f"{name or 'the network'} is a {type(module).__name__}, which mixes the examples "
                "of a batch: GroupNorm does not"
            )
    trial = copy.deepcopy(model)
    trial(*columns[:-1])
    before = dict(model.named_buffers())
    for name, buffer in trial.named_buffers():
        if not torch.equal(buffer, before[name]):
            raise NotTogether(f"the buffer {name} changes while it trains")
    values = {name: p.detach() for name, p in model.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    inputs, targets = tuple(columns[:-1]), columns[-1]
    outputs = functional_call(model, (values, buffers), inputs)
    again = functional_call(model, (values, buffers), inputs)
    alone = functional_call(model, (values, buffers), tuple(column[:1] for column in inputs))
    if not isinstance(outputs, torch.Tensor):
        raise NotTogether(f"the network gives a {type(outputs).__name__}, not a tensor")
    if not torch.equal(outputs, again):
        raise NotTogether("the network draws random numbers, as dropout does")
    if not _close(outputs[:1], alone):
        raise NotTogether("the outputs of an example depend on the others of its batch")
    if not _close(each_loss(outputs, targets).mean(), mean_loss(outputs, targets)):
        raise NotTogether("the loss is no mean of the losses of the examples")
    _require_reached(model, each_loss, columns)

    def loss(values: dict[str, torch.Tensor], *batch: torch.Tensor) -> torch.Tensor:
        outputs = functional_call(model, (values, buffers), batch[:-1])
        return each_loss(outputs, batch[-1]).mean()

    twice = {name: torch.stack([value, value]) for name, value in values.items()}
    try:
        vmap(grad_and_value(loss))(twice, *(torch.stack([column, column]) for column in columns))
    except RuntimeError as error:  # an operation without a client dimension, or a branch on values
        raise NotTogether(f"torch.func cannot batch the network ({_first_line(error)})") from error


def _require_reached(
    model: nn.Module, each_loss: EachLoss, columns: Sequence[torch.Tensor]
) -> None:
    """Parameters that the loss does not reach have no gradient, and weight decay leaves them."""
    loss = each_loss(model(*columns[:-1]), columns[-1]).mean()
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    for (name, _), gradient in zip(named, found, strict=True):
        if gradient is None:
            raise NotTogether(f"the loss does not depend on {name}")


def _close(some: torch.Tensor, others: torch.Tensor) -> bool:
    return some.shape == others.shape and torch.allclose(some, others, rtol=1e-3, atol=1e-5)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """On a GPU, let PyTorch choose algorithms that give the same bytes each time."""
    if not torch.cuda.is_available():
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    was_warning = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=was_warning)
        torch.backends.cudnn.benchmark = benchmark
