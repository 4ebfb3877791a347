"""The weights of a PyTorch module as named NumPy arrays, and back.

Weights are all tensors of the module's state: parameters, also frozen ones, and buffers of any
type. Where two names stand for one tensor (tied weights), the first in order counts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from client_sdk.errors import DataError
from client_sdk.task import weights_file


def weights_of(model: nn.Module) -> dict[str, np.ndarray]:
    """Copies of a module's tensors, on the CPU. Raises DataError for a type that cannot travel."""
    return {name: array_of(name, tensor) for name, tensor in _tensors(model).items()}


def put_weights(model: nn.Module, weights: Mapping[str, np.ndarray]) -> None:
    """Copy weights into a module. Raises DataError where they are not of its form."""
    tensors = _tensors(model)
    mine = {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()}
    found = {name: tensor_of(array) for name, array in weights.items()}
    if mine != {name: (tuple(t.shape), t.dtype) for name, t in found.items()}:
        raise DataError("The file's tensors are not the model's.")
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(found[name])


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The module's own tensors, each once."""
    found: dict[str, torch.Tensor] = {}
    seen: set[tuple[object, ...]] = set()
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, torch.Tensor):
            continue  # a module's extra state, which may be anything
        if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
            raise DataError(f"{name} has no shape yet: run the network once on an example.")
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if tensor.numel() and place in seen:
            continue
        seen.add(place)
        found[name] = tensor
    return found


def array_of(name: str, tensor: torch.Tensor) -> np.ndarray:
    """A copy of a tensor, on the CPU. Raises DataError for a type that cannot travel."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy().view(weights_file.BFLOAT16).copy()
    try:
        return tensor.numpy().copy()
    except TypeError as error:
        raise DataError(f"{name} is of the type {tensor.dtype}, which cannot travel.") from error


def tensor_of(array: np.ndarray) -> torch.Tensor:
    """A tensor that shares the array's memory, or has a copy of it."""
    if array.dtype == weights_file.BFLOAT16:
        bits = np.array(array.view(np.uint16))
        return torch.from_numpy(bits).view(torch.bfloat16)
    return torch.from_numpy(np.array(array, copy=not array.flags.writeable or None))
