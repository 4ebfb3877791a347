"""DP-SGD: a training whose weights hide whether a single example was in the data.

Opacus (Yousefpour et al., "Opacus: User-Friendly Differential Privacy Library in PyTorch", 2021,
arXiv:2109.12298) gives the gradient of each example and clips it. The sample of a step and its
noise are of random numbers of the operating system, because the coordinator knows each seed. So a
private training is no function of its seed.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from client_sdk import hints
from client_sdk.errors import BadSettings, DataError
from client_sdk.task.settings import TrainSettings
from client_sdk.task.steps import Steps
from client_sdk.task.task import Result
from client_sdk.task.tensors import weights_of
from serverless_fl.privacy.examples import ExampleNoise, steps_of
from serverless_fl.privacy.noise import normal

VALUES_AT_ONCE = 2**26  # of the gradients of single examples: 256 MB
_TRIED = 3  # examples, to see whether they depend on each other

Forward = Callable[[nn.Module, list[int]], tuple[Any, Any]]
"""Of a network and the places of some examples: its outputs [N, ...], and the targets [N, ...]."""

Losses = Callable[[Any, Any], torch.Tensor]
"""Of outputs and targets: the sum of the examples' losses, each of its own output alone."""


def train_privately(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    training: TrainSettings,
    examples: int,
    forward: Forward,
    losses: Losses,
) -> Result:
    """Train in place, and give the weights, the last epoch's mean loss, and what the steps cost.

    A step takes each example by itself, with the chance that makes `batch_size` of them on average.
    The sum of their clipped gradients gets noise, and is divided by `batch_size`: the number of
    those that were drawn would tell of them. The mean loss has no noise.

    Raises BadSettings where Opacus is missing or does not train this network, and DataError where a
    batch is larger than the data.
    """
    noise = training.example_noise
    assert noise is not None  # noqa: S101  (the caller looked)
    try:
        planned = steps_of(noise, examples, training.batch_size, training.epochs)
    except ValueError:
        raise DataError(
            f"This client trains on {examples} examples, fewer than batch_size "
            f"({training.batch_size}), and privacy dp-sgd hides an example among others: the "
            "experiment needs a smaller batch_size, or the client more data."
        ) from None
    wrapped, private = _wrapped(model, optimiser, training.batch_size, noise)
    _require_independent(model, forward, examples)
    model.train()
    steps = Steps(model, optimiser, training)
    weights = sum(p.numel() for p in private.params)
    at_once = max(1, VALUES_AT_ONCE // max(1, weights))
    total, seen = 0.0, 0
    with warnings.catch_warnings():
        # Opacus hooks the first layer, too, whose input needs no gradient.
        warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
        for number in range(planned.steps):
            if number % (planned.steps // training.epochs) == 0:
                total, seen = 0.0, 0
            drawn = sampled(examples, planned.rate)
            private.zero_grad(set_to_none=True)
            for start in range(0, max(1, len(drawn)), at_once):
                piece = drawn[start : start + at_once]
                if piece:
                    loss = losses(*forward(wrapped, piece))
                    loss.backward()
                    total += float(loss.detach())
                _fill(private.params, len(piece))
                private.signal_skip_step(start + at_once < len(drawn))
                if not private.pre_step():
                    private.zero_grad(set_to_none=True)
            seen += len(drawn)
            steps.take()
    metrics = {"train_loss": total / max(1, seen)}
    return Result(weights_of(model), examples, metrics, steps.effective, planned)


def sampled(examples: int, rate: float) -> list[int]:
    """Draw each of the examples by itself with this chance, by numbers that nobody can foretell."""
    if rate >= 1:
        return list(range(examples))
    numbers = np.frombuffer(os.urandom(8 * examples), "<u8")
    return np.flatnonzero(numbers < np.uint64(int(rate * 2**64))).tolist()


def gaussian(shape: Sequence[int], deviation: float) -> torch.Tensor:
    """Draw independent normal numbers that nobody can foretell, float64 of this shape."""
    bits = np.frombuffer(os.urandom(8 * math.prod(shape)), "<u8")
    return torch.from_numpy(deviation * normal(bits)).reshape(tuple(shape))


def require_opacus() -> None:
    """Raise BadSettings where Opacus is not installed."""
    try:
        import opacus  # noqa: F401  (a second of imports, which few trainings need)
    except ImportError as error:
        raise BadSettings(
            f"Privacy dp-sgd needs Opacus: {hints.install('serverless-fl[dp]')}"
        ) from error


def _wrapped(
    model: nn.Module, optimiser: torch.optim.Optimizer, batch_size: int, noise: ExampleNoise
) -> tuple[nn.Module, Any]:
    """The network with Opacus's hooks, and the optimiser's private half. Raises BadSettings."""
    require_opacus()
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer
    from opacus.validators import ModuleValidator

    class Private(DPOptimizer):  # type: ignore[misc]
        """Opacus's optimiser with noise of the operating system's random numbers."""

        def add_noise(self) -> None:
            deviation = self.noise_multiplier * self.max_grad_norm
            for p in self.params:
                total = p.summed_grad.cpu().double() + gaussian(p.shape, deviation)
                p.grad = total.to(p.dtype).to(p.device)  # MPS knows no float64

    model.train()
    for name, module in model.named_modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # it would overwrite what a hook has kept
        if faults := ModuleValidator.VALIDATORS.get(type(module), lambda _: [])(module):
            raise BadSettings(_not_private(name, module, str(faults[0])))
    try:
        wrapped = GradSampleModule(model, loss_reduction="sum")
    except NotImplementedError as error:
        raise BadSettings(
            f"Opacus does not give the gradients of single examples of this network: "
            f"{_first_sentence(str(error))}"
        ) from error
    private = Private(
        optimiser,
        noise_multiplier=noise.noise_multiplier,
        max_grad_norm=noise.clip_norm,
        expected_batch_size=batch_size,
    )
    return wrapped, private


def _not_private(name: str, module: nn.Module, said: str) -> str:
    """What is wrong with a layer, and what to take in its place."""
    kind = type(module).__name__
    layer = f"The layer {name} ({kind})" if name else f"The network ({kind})"
    if "BatchNorm" in kind:
        return (
            f"{layer} mixes the examples of a batch, so privacy dp-sgd cannot hide one of them: "
            "take GroupNorm (opacus.validators.ModuleValidator.fix does it) or LayerNorm."
        )
    return f"{layer} does not go with privacy dp-sgd: {_first_sentence(said)}"


def _first_sentence(text: str) -> str:
    return " ".join(text.split())[:300].partition(". ")[0].rstrip(".") + "."


@torch.no_grad()
def _require_independent(model: nn.Module, forward: Forward, examples: int) -> None:
    """Raise BadSettings where the output of an example depends on others, whatever the layers.

    Clipping bounds what one example changes only where it does not.
    """
    model.eval()
    tried = list(range(min(_TRIED, examples)))
    together, alone = forward(model, tried)[0], forward(model, tried[:1])[0]
    if not isinstance(together, torch.Tensor) or len(together) != len(tried):
        raise BadSettings(
            "Privacy dp-sgd needs a network with one tensor of outputs, a row for each example."
        )
    if not torch.allclose(together[:1], alone, rtol=1e-3, atol=1e-5):
        raise BadSettings(
            "The network's output of an example depends on the others of its batch, so privacy "
            "dp-sgd cannot hide one of them."
        )


def _fill(parameters: Sequence[Any], examples: int) -> None:
    """Give parameters that the loss did not reach a gradient of 0 for each example."""
    for p in parameters:
        if p.grad_sample is None:
            p.grad_sample = torch.zeros((examples, *p.shape), dtype=p.dtype, device=p.device)
