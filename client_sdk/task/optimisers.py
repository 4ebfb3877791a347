"""PyTorch's optimisers without the import of its compiler."""

from __future__ import annotations

import functools
import inspect
from typing import TypeVar, cast

import torch

Optimiser = TypeVar("Optimiser", bound=torch.optim.Optimizer)


@functools.cache
def without_compiler(optimiser: type[Optimiser]) -> type[Optimiser]:
    """A subclass of a class of torch.optim that takes the same steps and starts sooner.

    PyTorch wraps three methods of its optimisers to keep them out of compiled code. The wrappers
    import torch._dynamo, 800 modules, which takes as long as `import torch`. The methods inside do
    the same without them. A class from elsewhere is given back as it is.
    """
    if not optimiser.__module__.startswith("torch.optim."):
        return optimiser
    methods = {
        "add_param_group": inspect.unwrap(optimiser.add_param_group),
        "zero_grad": inspect.unwrap(optimiser.zero_grad),
        "step": torch.no_grad()(inspect.unwrap(optimiser.step)),
    }
    return cast("type[Optimiser]", type(optimiser.__name__, (optimiser,), methods))
