"""Says in words what is wrong with a user's labels, losses and metrics in PyTorch.

Libraries name such faults by their own insides, and some of them raise nothing at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from client_sdk.errors import BadSettings, DataError

_SHOWN = 5


def labels_for(
    outputs: torch.Tensor, targets: torch.Tensor, ignored: int, task: str
) -> torch.Tensor:
    """The labels as cross entropy takes them, for outputs [N, C, ...]. Raises DataError.

    Labels are whole numbers from 0 to C - 1, also as floats or in a column, or `ignored`; or
    shares of the classes, in the form of the outputs.
    """
    if targets.shape == outputs.shape:
        return targets.to(outputs.dtype)
    if targets.shape == (len(outputs), 1) and outputs.ndim == 2:
        targets = targets[:, 0]
    classes = outputs.shape[1] if outputs.ndim > 1 else 0
    rule = f"{task} has {classes} outputs, so its labels are whole numbers from 0 to {classes - 1}"
    if targets.shape != (len(outputs), *outputs.shape[2:]):
        raise DataError(
            f"{rule}, one an example: here {len(targets)} examples have labels of the shape "
            f"{list(targets.shape)}. To learn several labels an example, give another loss, such "
            "as nn.BCEWithLogitsLoss()."
        )
    whole = targets.long()
    odd = targets[targets != whole] if targets.is_floating_point() else targets[:0]
    wrong = whole[((whole < 0) | (whole >= classes)) & (whole != ignored)]
    for found in (odd, wrong):
        if found.numel():
            values = sorted(set(found.flatten().tolist()))
            shown = ", ".join(f"{value:g}" for value in values[:_SHOWN])
            raise DataError(f"{rule}: here are {shown}{', ...' if values[_SHOWN:] else ''}.")
    return whole


def tensor_of(column: Any) -> torch.Tensor:
    """A column of examples as a tensor. Raises DataError for words and objects."""
    if isinstance(column, torch.Tensor):
        return column
    try:
        return torch.as_tensor(column)
    except (TypeError, ValueError, RuntimeError) as error:
        values = np.asarray(column).ravel()[:_SHOWN].tolist()
        raise DataError(
            f"The examples have {', '.join(map(repr, values))}, which are no numbers: a network "
            "takes numbers, and labels as numbers from 0 on (np.unique(y, return_inverse=True))."
        ) from error


def one_number(value: Any, what: str) -> Any:
    """The value of a loss or a metric, which is one number. Raises BadSettings."""
    shape = getattr(value, "shape", ())
    if len(shape) and int(np.prod(shape)) != 1:
        raise BadSettings(
            f"{what} gives {int(np.prod(shape))} numbers (shape {list(shape)}), not one: let it "
            "give the mean over the examples, as .mean() and reduction='mean' do."
        )
    return value.reshape(()) if len(shape) and hasattr(value, "reshape") else value


def gradient_of(loss: Any, what: str) -> torch.Tensor:
    """A loss to go back from. Raises BadSettings."""
    if not isinstance(loss, torch.Tensor) or not loss.requires_grad:
        raise BadSettings(
            f"{what} gives a {type(loss).__name__} without a gradient: compute it of the outputs "
            "by PyTorch's functions, without .item(), float() or .detach()."
        )
    return loss


class NoAccidentalPairs(TorchFunctionMode):
    """Raises BadSettings where [N, 1] meets [N]: PyTorch then compares each with each.

    A loss or metric that squeezes the outputs alone does that, and gives a wrong number.
    """

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        shapes = {tuple(a.shape) for a in args[:2] if isinstance(a, torch.Tensor)}
        for shape in shapes:
            examples = shape[0] if len(shape) == 1 else 0
            made = getattr(found, "shape", None)
            if examples > 1 and (examples, 1) in shapes and made in ((examples, examples), ()):
                raise BadSettings(
                    f"{self._what} puts [{examples}, 1] beside [{examples}], which makes "
                    f"{examples * examples} pairs: outputs and targets come in one form, so "
                    "squeeze both of them, or none."
                )
        return found
