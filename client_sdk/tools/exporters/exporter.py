"""What an exporter gets, and what it must do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import torch
    from torch import nn


SCALING = "scaling"  # the key of the metadata that says who scales the inputs


def scaling(normalise: bool) -> str:
    """Say in a word for programs who scales the inputs: the graph itself, or its caller."""
    return "graph" if normalise else "caller"


@dataclass(frozen=True)
class Graph:
    """A network, inputs to trace it with, the names of its input and output, and the metadata.

    `example` is [N, ...]. N is two or more: PyTorch's exporter takes a batch of one for a fixed
    size. A network of several inputs has a tuple of them. The metadata are those of the model's
    file, and descriptions of the input and the output.
    """

    network: nn.Module
    example: torch.Tensor | tuple[torch.Tensor, ...]
    about: Mapping[str, str]
    input: str
    output: str

    @property
    def examples(self) -> tuple[torch.Tensor, ...]:
        """The example of each input."""
        return self.example if isinstance(self.example, tuple) else (self.example,)

    @property
    def inputs(self) -> list[str]:
        """The name of each input: those of several are numbered from 0."""
        if not isinstance(self.example, tuple):
            return [self.input]
        return [f"{self.input}{number}" for number in range(len(self.example))]


class Exporter(ABC):
    """A format of models. Its module imports the format's package only when it writes.

    `name` is for `--format`, and `suffix` ends the names of its files. A format without a graph
    holds the weights alone, so nobody can put the scaling of inputs into it.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    has_graph: ClassVar[bool] = True

    @abstractmethod
    def write(self, model: bytes, trace: Callable[[], Graph]) -> bytes:
        """The bytes of a file of this model, for a batch of any size.

        `model` is the model's own file, and `trace` gives its network in evaluation mode. Raises
        DataError where a package is missing, and RuntimeError, ValueError or TypeError where the
        network cannot be exported.
        """
