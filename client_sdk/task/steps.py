"""The steps of a local training: an optimiser, and what a step changes in a gradient."""

from __future__ import annotations

import torch
from torch import nn

from client_sdk.errors import BadSettings
from client_sdk.task.settings import TrainSettings
from client_sdk.task.tensors import tensor_of
from serverless_fl.aggregation.fednova import effective_steps


class Steps:
    """Takes an optimiser's steps, and counts them.

    A step first shortens the gradient of the loss to `max_gradient_norm`. Then it adds
    `proximal_mu` (y - x), where x are the weights at the beginning and y those of now (FedProx, Li
    et al., arXiv:1812.06127), and the `offset` of the strategy. The optimiser then adds the weight
    decay. Parameters that the loss does not reach stay as they are.

    Raises BadSettings for an offset where the steps are not SGD's with the learning rate of the
    settings: strategies reckon with those.
    """

    def __init__(
        self, model: nn.Module, optimiser: torch.optim.Optimizer, training: TrainSettings
    ) -> None:
        if training.offset is not None and not _is_sgd(optimiser, training.learning_rate):
            raise BadSettings(
                f"The strategy corrects gradients of SGD, not of {type(optimiser).__name__}, and "
                f"with the learning rate of the experiment, {training.learning_rate:g}."
            )
        self.count = 0
        self._optimiser = optimiser
        self._momentum = training.momentum if isinstance(optimiser, torch.optim.SGD) else 0.0
        self._limit, self._mu = training.max_gradient_norm, training.proximal_mu
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self._parameters = [parameter for _, parameter in named]
        self._starts = [p.detach().clone() for p in self._parameters] if self._mu else []
        offset = training.offset or {}
        self._offsets = [(p, tensor_of(offset[name]).to(p)) for name, p in named if name in offset]

    @property
    def effective(self) -> float:
        """The steps of plain SGD that reach as far; 0 if there was none."""
        return effective_steps(self.count, self._momentum) if self.count else 0.0

    @torch.no_grad()
    def take(self) -> None:
        """Take a step with the gradients that the parameters have."""
        if self._limit is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._limit)
        for parameter, start in zip(self._parameters, self._starts, strict=False):
            if parameter.grad is not None:
                parameter.grad.add_(parameter - start, alpha=self._mu)
        for parameter, offset in self._offsets:
            if parameter.grad is not None:
                parameter.grad.add_(offset)
        self._optimiser.step()
        self.count += 1


def _is_sgd(optimiser: torch.optim.Optimizer, learning_rate: float) -> bool:
    rates = {group["lr"] for group in optimiser.param_groups}
    return isinstance(optimiser, torch.optim.SGD) and rates == {learning_rate}
