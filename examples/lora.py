"""Four clinics adapt a transformer that read other notes: only adapters and the head travel.

    python -m examples.lora

A small transformer, made from a configuration, first learns departments from public notes. The
clinics then teach it which notes are urgent. Beside each projection of its attention lies an
adapter B A of low rank (Hu et al., "LoRA", ICLR 2022). A is random, frozen and the same everywhere,
because the mean of products is not the product of means (Sun et al., "FFA-LoRA", ICLR 2024).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from client_sdk import TorchTask, simulate
from examples.sentences import DEPARTMENTS, LENGTH, notes, vocabulary


@dataclass(frozen=True)
class Config:
    """The form of a transformer; width is of a word's vector."""

    words: int = len(vocabulary())
    length: int = LENGTH
    width: int = 32
    heads: int = 4
    layers: int = 2
    classes: int = len(DEPARTMENTS)
    rank: int = 4  # of the adapters


class Adapted(nn.Module):
    """A linear layer with an adapter beside it: W x + B A x."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.base = nn.Linear(width, width)
        self.lora_a = nn.Parameter(torch.randn(rank, width) / width**0.5)
        self.lora_b = nn.Parameter(torch.zeros(width, rank))  # the adapter adds nothing at first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + x @ self.lora_a.T @ self.lora_b.T


class Block(nn.Module):
    """Attention, then two layers at each word; x is [N, words, width], mask [N, 1, 1, words]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.heads
        names = ("query", "key", "value", "out")
        self.attention = nn.ModuleDict({n: Adapted(config.width, config.rank) for n in names})
        self.first, self.second = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.wide = nn.Linear(config.width, 4 * config.width)
        self.narrow = nn.Linear(4 * config.width, config.width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        normal = self.first(x)
        q, k, v = (
            self.attention[name](normal).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        seen = F.scaled_dot_product_attention(q, k, v, mask)
        x = x + self.attention["out"](seen.transpose(1, 2).flatten(2))
        return x + self.narrow(F.gelu(self.wide(self.second(x))))


class Transformer(nn.Module):
    """Words int64 [N, length], 0 for none, to scores [N, classes]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.words = nn.Embedding(config.words, config.width)
        self.places = nn.Parameter(torch.randn(config.length, config.width) / 10)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = nn.Linear(config.width, config.classes)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        there = words > 0
        x = self.words(words) + self.places
        for block in self.blocks:
            x = block(x, there[:, None, None])
        mean = (x * there[..., None]).sum(1) / there.sum(1, keepdim=True)
        return self.head(mean)


def read_public_notes() -> Transformer:
    """A transformer that knows the departments of notes, so what the words mean."""
    torch.manual_seed(0)
    model = Transformer(Config())
    words, departments, _ = (torch.from_numpy(part) for part in notes(1500, seed=2))
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(3):
        for batch in torch.randperm(len(words)).split(50):
            optimiser.zero_grad()
            F.cross_entropy(model(words[batch]), departments[batch]).backward()
            optimiser.step()
    return model


def to_adapt(model: Transformer) -> Transformer:
    """The transformer with a new head of two classes; only adapters' B and the head learn."""
    model.head = nn.Linear(model.head.in_features, 2)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_b" in name or name.startswith("head."))
    return model


if __name__ == "__main__":
    model = to_adapt(read_public_notes())
    (words, _, urgent), (test_words, _, test_urgent) = notes(1200, seed=0), notes(400, seed=1)
    result = simulate(
        TorchTask(model, classes=["routine", "urgent"]),
        train=(words, urgent),
        test=(test_words, test_urgent),
        clients=4,
        shared=["*lora_b", "head.*"],
        rounds=5,
        local_epochs=3,
        learning_rate=0.1,
    )
    sent = sum(np.size(tensor) for tensor in result.weights.values())
    whole = sum(tensor.numel() for tensor in model.state_dict().values())
    print(f"accuracy {result.metrics['accuracy']:.2%}")
    print(f"of {whole} weights {sent} travel")
