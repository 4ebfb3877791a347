"""The local training loop: ours, PyTorch's as its tutorials write it, and the core's own limit.

    python -m benchmarks.training.local_loop [--full]

Seconds of one core's time (`time.thread_time`), the best of several turns that follow each other
closely, on random images: nothing here depends on what they show. The limit is what the core does
in a product of two matrices of 1024 x 1024, in floating-point operations a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.tables import Row, Table, command
from client_sdk.task.compiled.native import Unavailable, compile_kernel
from client_sdk.task.models import ModelSpec, build, spec_for
from client_sdk.task.settings import TrainSettings
from client_sdk.task.train import Loop, pick_device, train, train_fused

SHAPES = {"mnist-cnn": (1, 28, 28), "cifar10-cnn": (3, 32, 32), "digits-cnn": (1, 8, 8)}
SETTINGS = TrainSettings(epochs=1, batch_size=50, learning_rate=0.05, momentum=0.5)
GOAL = 2.0  # times as many images a second as the plain loop, for MNIST's network


def plain(
    model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, settings: TrainSettings, seed: int
) -> float:
    """As a tutorial has it: a DataLoader, the default memory format, the default optimiser."""
    loader = DataLoader(TensorDataset(x, y), batch_size=settings.batch_size, shuffle=True)
    optimiser = torch.optim.SGD(
        model.parameters(), lr=settings.learning_rate, momentum=settings.momentum
    )
    model.train()
    for _ in range(settings.epochs):
        for images, labels in loader:
            optimiser.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimiser.step()
    return float(loss.detach())


def operations(spec: ModelSpec) -> int:
    """Floating-point operations of one image, forwards and backwards, in the products alone.

    The first layer needs no gradient of its input, no position that the pooling drops counts, and
    of a convolution's gradients a quarter: a pooling hands its gradient to one of four positions.
    """
    first, second = spec.conv
    grown = 2 * spec.padding - spec.kernel + 1
    one = [(size + grown) // 2 * 2 for size in (spec.height, spec.width)]
    two = [(size // 2 + grown) // 2 * 2 for size in one]
    convolutions = [
        2 * one[0] * one[1] * first * spec.in_channels * spec.kernel**2,
        2 * two[0] * two[1] * second * first * spec.kernel**2,
    ]
    dense = 2 * (spec.flat_size() * spec.hidden + spec.hidden * spec.classes)
    return round(1.25 * convolutions[0] + 1.5 * convolutions[1] + 3 * dense)


def seconds(work: Callable[[], object]) -> float:
    started = time.thread_time()
    work()
    return time.thread_time() - started


def _product() -> Callable[[], object]:
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    return lambda: torch.mm(a, b)


def measure(full: bool) -> Table:
    """Images a second of each loop and network. One minute in full."""
    torch.set_num_threads(1)
    table = Table(
        "The local loop",
        f"python -m benchmarks.training.local_loop{' --full' if full else ''}",
        "plain PyTorch",
    )
    for name, shape in SHAPES.items():
        _rows(table, spec_for(name, shape, 10), full)
    table.notes.append(
        "Images a second on one core, batches of 50. `plain` is a DataLoader over tensors, the "
        "default memory format and optimiser; `readable` is `client_sdk.task.train.train`, which "
        "the fast loops are tested against; `PyTorch, fused` is what trains where there is no C "
        "compiler. The limit is a product of two matrices of 1024 x 1024 in the same run; of it, "
        "only multiplications and additions of the layers count, and of the gradients of a "
        "convolution those that are not with the zeros that its pooling leaves, a quarter."
    )
    return table


def _rows(table: Table, spec: ModelSpec, full: bool) -> None:
    images = 1000 if full else 500
    x = torch.randn(images, spec.in_channels, spec.height, spec.width)
    y = torch.randint(spec.classes, (images,))
    loops: dict[str, Loop] = {"plain": plain, "readable": train, "PyTorch, fused": train_fused}
    try:
        loops["machine code"] = compile_kernel(spec).train
    except Unavailable as reason:
        table.notes.append(f"{spec.name}: no machine code ({reason}).")
    best = dict.fromkeys(loops, float("inf"))
    limit, product = float("inf"), _product()
    for _ in range(7 if full else 4):
        for name, loop in loops.items():
            model = build(spec, 0)
            best[name] = min(best[name], seconds(lambda: loop(model, x, y, SETTINGS, 0)))  # noqa: B023
        limit = min(limit, seconds(product))
    peak = 2 * 1024**3 / limit  # operations a second
    for name in list(loops)[1:]:
        ratio = best["plain"] / best[name]
        last = name == "machine code"
        table.rows.append(
            Row(
                f"{spec.name}, {name}",
                f"{images / best[name]:,.0f}/s",
                f"{images / best['plain']:,.0f}/s",
                ratio,
                f"at least {GOAL:g}" if last else "",
                ratio >= GOAL if last else None,
            )
        )
    share = images / min(best.values()) * operations(spec) / peak
    table.rows.append(
        Row(
            f"{spec.name}, operations a second",
            f"{share * peak / 1e9:.1f} G",
            f"{peak / 1e9:.1f} G (limit)",
            share,
        )
    )
    table.data[spec.name] = {"images": images, "seconds": best, "limit": peak, "share": share}
    table.data["device"] = str(pick_device())


if __name__ == "__main__":
    command(__doc__, lambda full, _: measure(full))
